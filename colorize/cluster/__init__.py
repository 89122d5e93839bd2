"""The Ray session, resources and pools. The only package that uses private parts of Ray."""
