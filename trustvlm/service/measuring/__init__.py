"""Evaluation, calibration and feedback on labelled images."""
