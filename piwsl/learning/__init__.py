"""Learning with few labels: a loop of labeling, training and dynamics that ends with a verified, fast potential."""
