"""The rows of verdict logs, and the SQL that reads and changes them."""
