"""Score and search: from a query to a verdict."""
