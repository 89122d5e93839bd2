"""Renders templates to self-contained pages: inline styles and scripts, no external resources, all values escaped."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from colorize.report.durations import duration

THUMBNAIL_QUALITIES = (80, 60, 40, 20, 8)  # the first within `THUMBNAIL_BYTES` is used
THUMBNAIL_BYTES = 32_000


def render_page(template: str, **context: Any) -> bytes:
    """Renders `templates/<template>`; undefined names are errors."""
    return _environment().get_template(template).render(**context).encode()


def thumbnail(image: Image.Image | npt.NDArray[np.uint8], side: int) -> str:
    """A JPEG thumbnail, its longer side at most `side` pixels, as a data URI of at most 43 kB."""
    image = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in THUMBNAIL_QUALITIES:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= THUMBNAIL_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def amount(size: float) -> str:
    """A size in bytes, for display.

    >>> amount(532), amount(48_230_000)
    ('532 B', '48.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def digest(source: str) -> str:
    """The hash that allows an inline style or script in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("colorize.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": amount,
        "duration": duration,
        "count": lambda number: f"{number:,}",
        "digest": digest,
    }
    return environment
