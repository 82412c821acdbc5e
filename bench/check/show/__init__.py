"""A check as files, terminal, page and annotations.  It decides nothing."""
