"""Training: a pure-torch loop, and its bindings to Ray and to a single process."""
