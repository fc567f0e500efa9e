"""The outputs of external classifiers: which label has which."""
