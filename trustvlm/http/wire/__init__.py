"""JSON, NPZ and form bodies: how requests are read and answers written."""
