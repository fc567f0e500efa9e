"""Labels of spaces with an external classifier."""
