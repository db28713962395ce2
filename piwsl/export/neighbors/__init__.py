"""Neighbor lists for exported potentials."""
