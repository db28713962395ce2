"""Neighbor lists that exported potentials use."""
