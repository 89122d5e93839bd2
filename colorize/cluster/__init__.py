"""The Ray session, its resources and pools: the only package that touches private parts of Ray."""
