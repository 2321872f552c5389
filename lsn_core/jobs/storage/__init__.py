"""What jobs leave on disk: the registry, their files, locks, and cleaning up."""
