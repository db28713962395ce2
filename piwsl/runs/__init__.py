"""A directory that a long job writes: files, locks, logs, and the processes that work on it."""
