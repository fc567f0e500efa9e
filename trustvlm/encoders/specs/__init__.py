"""Encoder specs: their forms, the names that stand for them, and presets."""
