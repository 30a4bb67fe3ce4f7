"""One task's batch: what was done for each asset, how far it is, what becomes of it."""
