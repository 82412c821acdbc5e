"""Judges variants that nobody has read: each in a process of its own, on numbers that it has never seen, by a clock that it cannot reach."""
