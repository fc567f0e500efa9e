"""How requests are worked on: threads, batches, jobs and spooled files."""
