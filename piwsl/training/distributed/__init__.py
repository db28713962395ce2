"""Training with several processes: launch, communication, devices."""
