"""Colorizes archives of old photographs, at any scale, without changing the scan's luminance.

>>> import colorize
>>> in_color = colorize.load("default")(image)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Colorizer", "__version__", "load", "load_published"]

_LAZY = {  # imported on first use: torch takes seconds to import
    "Colorizer": "colorize.predict.images",
    "load": "colorize.predict.images",
    "load_published": "colorize.models.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'colorize' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
