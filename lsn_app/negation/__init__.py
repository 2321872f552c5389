"""The tab on "not": which texts the model chooses, and whether a denial changes that."""
