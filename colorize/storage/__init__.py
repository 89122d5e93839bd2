"""Files below a root, local or remote: listing, reading, atomic writes, locks and timeouts."""
