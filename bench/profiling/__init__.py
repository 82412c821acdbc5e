"""What a variant costs beside its time: operators, memory, leaks, graphs, work."""
