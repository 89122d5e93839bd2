"""Files below a root, local or remote: list, read, write atomically, lock, time out."""
