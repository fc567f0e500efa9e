"""An open home: its parts, its limits, its originals, its counts, and the purge."""
