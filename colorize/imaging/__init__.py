"""Image files and pixels: formats, color, composition, triage. No Ray; torch only in `color`."""
