"""Tables and progress of a run in a terminal.  Same words as the page."""
