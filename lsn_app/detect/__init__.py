"""The Detect tab: one photo or many, the known classes, and whether a photo shows one of them."""
