"""Priors: pair energies with physical or fitted parameters that a potential adds to its network."""
