"""Any open_clip model as an image tower and a promptable text tower."""
