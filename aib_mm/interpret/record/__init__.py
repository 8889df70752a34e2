"""Maps out of any model, and the images they belong to."""
