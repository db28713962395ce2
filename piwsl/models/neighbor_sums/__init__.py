"""Sums over neighbors: for any batch of graphs, as compiled loops for CPUs, and for a single molecule."""
