"""Gives whole archives of old photographs color, at any scale, without touching the scan's luminance."""

from __future__ import annotations

__version__ = "0.1.0"
