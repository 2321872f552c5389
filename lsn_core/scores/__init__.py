"""OOD scores, each a small function with its source, and the registry by name; higher = more in-distribution."""
