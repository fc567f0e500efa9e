"""Trees of labels, and the probability of their nodes."""
