"""Verdicts in the form that labelling tools import, one file a tool."""
