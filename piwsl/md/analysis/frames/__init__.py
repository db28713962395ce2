"""Trajectory files as sources of frames that need not fit into memory."""
