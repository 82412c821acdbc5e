"""A suite on disk: its layer files mounted by path, and the code that each layer consists of.  No torch."""
