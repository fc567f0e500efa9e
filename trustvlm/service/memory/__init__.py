"""What a process keeps in memory of each label space, followed by revision."""
