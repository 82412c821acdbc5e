"""Is a variant the same layer as the reference?  Values only, nothing is timed."""
