"""Trajectory files: reading and writing, one format per module."""
