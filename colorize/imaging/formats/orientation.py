"""Converts arrays between the stored layout and the upright view, by EXIF orientation.

The eight values are those of the EXIF standard (JEITA CP-3451, tag 0x0112), applied like Pillow's
`ImageOps.exif_transpose`. Rows and columns are the last two axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# value -> (swap rows and columns first, then flip vertically, then flip horizontally): stored -> upright
_STEPS: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def orient(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored layout -> upright view of a `(..., H, W)` array. A view, no copy."""
    swap, vertical, horizontal = _STEPS[orientation]
    return _flip(np.swapaxes(stored, -1, -2) if swap else stored, vertical, horizontal)


def unorient(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Upright view -> stored layout of a `(..., H, W)` array: the inverse of `orient`."""
    swap, vertical, horizontal = _STEPS[orientation]
    flipped = _flip(upright, vertical, horizontal)
    return np.swapaxes(flipped, -1, -2) if swap else flipped


def _flip(array: NDArray[Any], vertical: bool, horizontal: bool) -> NDArray[Any]:
    return array[..., :: -1 if vertical else 1, :: -1 if horizontal else 1]
