"""Interfaces that let other programs call an exported potential: ASE, OpenMM, openmm-ml, torch-sim."""
