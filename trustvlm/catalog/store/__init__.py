"""The database itself: engine, tables, schema, clock, and how vectors and names are stored."""
