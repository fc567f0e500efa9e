"""The discriminant of each space: read from the catalog, fitted, kept in memory and in a file."""
