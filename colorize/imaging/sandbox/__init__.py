"""A child process that bounds the time and the memory that one image may take."""
