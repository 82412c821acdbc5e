"""What the author of a layer file writes, checked as it is made; and the exceptions that carry one sentence.  No torch."""
