"""Small grey images and their colors as Arrow columns: bytes with their sides beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from colorize.imaging.canvas import Fitted

GREY_COLUMNS = ("grey", "grey_height", "grey_width")


def grey_from(row: dict[str, object]) -> npt.NDArray[np.uint8]:
    """The small grey picture of a loaded row."""
    flat = np.frombuffer(row["grey"], np.uint8)  # type: ignore[call-overload]
    grey: npt.NDArray[np.uint8] = flat.reshape(row["grey_height"], row["grey_width"])
    return grey


def fitted_from(row: dict[str, Any]) -> Fitted:
    """The same, as it was fitted into its canvas, with its hints."""
    hints = np.frombuffer(row["hints"], np.float32).reshape(-1, 4)
    return Fitted(grey_from(row), hints, (row["canvas_height"], row["canvas_width"]))


def ab_from(row: dict[str, object]) -> npt.NDArray[np.float16]:
    """The low-resolution color of a predicted row."""
    flat = np.frombuffer(row["ab"], np.float16)  # type: ignore[call-overload]
    ab: npt.NDArray[np.float16] = flat.reshape(2, row["ab_height"], row["ab_width"])
    return ab
