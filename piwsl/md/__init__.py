"""Molecular dynamics with an exported potential, and what came out of it."""
