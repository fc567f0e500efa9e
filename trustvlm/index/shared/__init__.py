"""Snapshots in a place that several machines share."""
