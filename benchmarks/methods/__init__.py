"""The methods that the tables compare: a registry, and one file a family."""
