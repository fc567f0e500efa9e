"""How requests are worked on: threads, batches and jobs."""
