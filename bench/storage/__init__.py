"""Files that are written and read again: names, run files.  No torch."""
