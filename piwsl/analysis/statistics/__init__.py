"""Numbers with error bars, distributions and curves, and what tells two of them apart."""
