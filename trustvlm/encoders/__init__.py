"""Encoders: from images and texts to embeddings."""
