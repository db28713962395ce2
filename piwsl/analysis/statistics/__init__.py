"""Numbers with error bars, distributions and curves, and the comparison of two of them."""
