"""Watching over what comes in, and over the promise of a calibration."""
