"""What all runs know together."""
