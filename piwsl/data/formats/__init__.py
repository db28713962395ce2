"""Readers and writers of files with labeled structures, one format per module."""
