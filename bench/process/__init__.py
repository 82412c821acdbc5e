"""The worker process as its parent sees it, the messages between them, and Nsight Compute.  No torch."""
