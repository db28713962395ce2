"""Search for good settings with Optuna: ranges, a study shared by several workers, and results."""
