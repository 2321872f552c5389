"""A detector: prompts, a score and its calibration, in one file."""
