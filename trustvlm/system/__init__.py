"""Process plumbing: durable files, signals, fault points, timing and resources of one process."""
