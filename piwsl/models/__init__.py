"""Energy networks and the potential around them."""
