"""What commands print: tables, JSON lines, CSV, progress."""
