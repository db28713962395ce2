"""What a run writes while it goes: trajectory, topology, thermo.csv."""
