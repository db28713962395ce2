"""Readers and writers of trajectory files, one format per module."""
