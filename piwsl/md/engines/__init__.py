"""Programs that move the atoms, behind one interface."""
