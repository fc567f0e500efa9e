"""Bodies of queries."""
