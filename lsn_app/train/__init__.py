"""The Train tab: from a zip of photos to a detector of one's own, by a job that outlives the page."""
