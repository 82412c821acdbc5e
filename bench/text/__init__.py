"""What the terminal and the pages write alike: commands, ratios, digits.  No layout."""
