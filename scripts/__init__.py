"""Builds of what ships in `checkpoints/` and `benchmarks/data/`, and screenshots; none of it is needed at run time."""
