"""Claims: labels that were given elsewhere, judged by the same rules as the space's own label."""
