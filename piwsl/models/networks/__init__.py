"""Energy networks, one per module, and the layers they share."""
