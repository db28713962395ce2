"""Training with several processes: launch, communication, and devices."""
