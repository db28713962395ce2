"""Private interfaces of other packages, one function each: what to repair first when a new version breaks piwsl."""
