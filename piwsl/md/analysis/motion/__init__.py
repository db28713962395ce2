"""What is measured of velocities and energies."""
