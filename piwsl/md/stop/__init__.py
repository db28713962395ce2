"""Stop rules: when a run is no longer physics."""
