"""What to measure, in which order, and for how long.  No torch, nothing is built."""
