"""What a process keeps of attributes: columns of values, and the masks of filters."""
