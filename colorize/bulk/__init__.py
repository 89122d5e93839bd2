"""The bulk job: an archive in, a colored copy and a manifest out."""
