"""Files of the review queue: items out, answers in."""
