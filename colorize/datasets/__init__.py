"""Inputs: folder trees, Parquet archives, input lists, splits, hints."""
