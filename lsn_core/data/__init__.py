"""Image sets: opening untrusted images, labelled sets in folders, zips and Parquet, and their features."""
