"""Evaluation of models on color images."""
