"""Files to labelled structures to batches of graphs; named systems; labelling."""
