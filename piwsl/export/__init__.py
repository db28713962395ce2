"""Freezing a trained potential into one file."""
