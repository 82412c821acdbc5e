"""The machine that measures: what it is, who else uses it, and the limits that a worker has on it."""
