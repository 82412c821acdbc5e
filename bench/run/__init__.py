"""A run in the parent: its loop over the points, its journal, and how it is taken up again.  No torch."""
