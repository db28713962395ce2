"""Stop rules: conditions that end an unphysical run."""
