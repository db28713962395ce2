"""What is measured of a periodic cell."""
