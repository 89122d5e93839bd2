"""What is read: folder trees, Parquet archives, input lists, splits, hints."""
