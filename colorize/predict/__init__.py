"""Images in, color out, in one process. No Ray."""
