"""The review queue: what a person is asked about images, and what becomes of the answers."""
