"""What is measured of a molecule in vacuum."""
