"""Files on disk and in buckets: how they are listed, read and written. No Ray."""
