"""The worker process as its parent sees it, and the messages between them.  No torch."""
