"""Arguments that make large networks small enough to test, with all their parts."""

from __future__ import annotations

from typing import Any

_DDCOLOR = {
    "depths": [1, 1, 2, 1], "widths": [8, 16, 24, 32], "features": 32, "queries": 10, "layers": 3, "hidden": 32,
}  # fmt: skip
SMALL_ARGS: dict[str, dict[str, Any]] = {
    "ddcolor_large": _DDCOLOR,
    "ddcolor_tiny": _DDCOLOR,
    "eccv16": {"width": 8},
    "siggraph17": {"width": 8},
}
