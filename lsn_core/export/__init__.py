"""Detectors for other places: one graph from pixels to score, class and verdict, with what it takes to feed it."""
