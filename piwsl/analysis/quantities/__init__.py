"""Quantities that are measured on a trajectory, one per module."""
