"""Attributes of labels and support images, and filters over them (docs/attributes.md)."""
