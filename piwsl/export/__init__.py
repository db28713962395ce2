"""Trained files, exported files, and the export of one to the other."""
