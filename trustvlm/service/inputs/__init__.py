"""Checks and encodes what callers pass: images, texts, names and labelled images."""
