"""The Evaluate tab: how well a detector tells photos of its classes from others."""
