"""Private interfaces of other packages, one function each. Check these first if a new version breaks piwsl."""
