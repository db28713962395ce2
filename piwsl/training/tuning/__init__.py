"""Search for good settings with Optuna: ranges, a study shared by many workers, the result."""
