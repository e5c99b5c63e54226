"""Training: the Lightning module, optimizer, schedulers, and what is supported."""
