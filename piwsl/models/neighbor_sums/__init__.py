"""Sums over neighbors: for any batch of graphs, compiled for CPUs, and for one molecule."""
