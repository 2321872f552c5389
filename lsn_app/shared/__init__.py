"""Small parts that several tabs use: uploads, messages, plots, words, examples, theme."""
