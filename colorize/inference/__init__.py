"""The bulk job: source -> load -> predict -> write -> manifest, on Ray Data."""
