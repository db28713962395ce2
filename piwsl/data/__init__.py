"""Files to labeled structures to batches of graphs; named systems; labeling."""
