"""The manifest: completed and remaining inputs, compaction. No Ray."""
