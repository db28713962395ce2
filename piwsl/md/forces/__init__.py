"""The exported potential as a force: direct calls, and the two ways into OpenMM."""
