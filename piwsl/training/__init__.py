"""Training a potential: configuration, loop, and the run directory it leaves."""
