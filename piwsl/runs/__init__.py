"""Directories and processes of long jobs: files, locks, logs, configurations, executors."""
