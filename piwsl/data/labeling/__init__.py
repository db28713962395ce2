"""Compute labels with reference methods, for given structures or along reference dynamics."""
