"""The rows of the review queue, and the SQL that reads and changes them."""
