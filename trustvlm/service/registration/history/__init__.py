"""What happened to a space, when and by whom, and what changed since a revision."""
