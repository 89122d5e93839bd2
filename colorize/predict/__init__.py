"""Inference in one process. No Ray."""
