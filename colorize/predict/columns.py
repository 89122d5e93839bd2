"""Small grey images and their colors as Arrow columns: bytes with their sides beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from colorize.imaging.hinting import Hinted, Seen

GREY_COLUMNS = ("grey", "grey_height", "grey_width")


def grey_from(row: dict[str, object]) -> npt.NDArray[np.uint8]:
    """The small grey picture of a loaded row."""
    flat = np.frombuffer(row["grey"], np.uint8)  # type: ignore[call-overload]
    grey: npt.NDArray[np.uint8] = flat.reshape(row["grey_height"], row["grey_width"])
    return grey


def seen_from(row: dict[str, object]) -> Seen:
    """The same, with its hints if it has any."""
    hints = np.frombuffer(row["hints"], np.float32)  # type: ignore[call-overload]
    return Hinted(grey_from(row), hints.reshape(-1, 4)) if len(hints) else grey_from(row)


def ab_from(row: dict[str, object]) -> npt.NDArray[np.float16]:
    """The low-resolution color of a predicted row."""
    flat = np.frombuffer(row["ab"], np.float16)  # type: ignore[call-overload]
    ab: npt.NDArray[np.float16] = flat.reshape(2, row["ab_height"], row["ab_width"])
    return ab
