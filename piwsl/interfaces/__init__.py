"""Exported potentials in other programs: ASE, OpenMM, openmm-ml, torch-sim."""
