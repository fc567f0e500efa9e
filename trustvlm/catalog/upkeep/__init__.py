"""SQL of upkeep: copies, purges, re-embedding, and the repair of damaged rows."""
