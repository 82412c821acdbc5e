"""Records to tables, verdicts, comparisons and words.  It reads, and measures nothing.  No torch."""
