"""Heat maps: where in a photo a prompt gets its answer from."""

DEFAULT_OPACITY = 0.7
