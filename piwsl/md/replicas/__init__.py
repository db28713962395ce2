"""Runs with several replicas, in one process or distributed over a cluster."""
