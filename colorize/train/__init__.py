"""Training: a step in pure torch, and loops around it."""
