"""Registering labels that exist with other values, in place of those that they have."""
