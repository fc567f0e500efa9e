"""Vectors in memory: exact row tables, live FAISS indexes, and the snapshot files that both are
started from. Everything here can be rebuilt from the catalog."""
