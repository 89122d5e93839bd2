"""The manifest as a ledger: what is done, what is left, compaction. No Ray."""
