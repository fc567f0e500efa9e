"""Statistics, tuning and choice of the FAISS indexes."""
