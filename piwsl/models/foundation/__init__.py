"""Foundation models: readers for files of other programs, and conversion to networks of piwsl."""
