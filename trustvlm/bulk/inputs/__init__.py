"""Where bulk work gets its rows from."""
