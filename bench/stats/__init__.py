"""Statistics as pure functions of plain numbers: ratios with intervals, and the sequential test.  No layer, no clock, no file."""
