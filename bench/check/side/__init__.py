"""The worker of a check: one or both sides mounted, and units timed on them."""
