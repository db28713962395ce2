"""Training of a potential: configuration, training loop, and run directory."""
