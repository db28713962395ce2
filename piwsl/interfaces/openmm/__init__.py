"""Exported potentials as OpenMM forces."""
