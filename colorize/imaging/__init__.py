"""Image files and pixels: formats, color, composition, triage. No Ray, and no torch where workers do without."""
