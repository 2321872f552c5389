"""Many machines: work that is divided over a Ray cluster."""
