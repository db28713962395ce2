"""Foundation models: readers of files that other programs wrote, and their conversion into networks of piwsl."""
