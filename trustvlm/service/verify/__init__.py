"""Looking at everything that a home holds, and repairing what is damaged."""
