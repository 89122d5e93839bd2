"""The bulk job: colors an archive and writes a manifest of all inputs."""
