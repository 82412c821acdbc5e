"""Clocks, blocks and rounds: seconds of calls that somebody else has made.  It knows no layer."""
