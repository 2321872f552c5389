"""Prompts: written ones, learned ones, and the text tower that encodes them."""
