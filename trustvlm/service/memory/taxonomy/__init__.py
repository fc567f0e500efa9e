"""The taxonomy of a space as a process keeps it."""
