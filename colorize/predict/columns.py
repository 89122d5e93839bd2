"""Small grey images and their colors as Arrow columns: bytes, with separate height and width columns.

A TIFF with several pages is one row: its first colored page is stored like any other image, further pages in lists of
structs; `page` is 0-based.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from colorize.imaging.canvas import Fitted

GREY_COLUMNS = ("grey", "grey_height", "grey_width")
CANVAS_COLUMNS = ("canvas_height", "canvas_width")
PAGE_FIELDS = [
    ("page", pa.int64()),
    ("grey", pa.binary()),
    *((name, pa.int64()) for name in ("grey_height", "grey_width", *CANVAS_COLUMNS)),
]
COLOR_FIELDS = [("page", pa.int64()), ("ab", pa.binary()), ("ab_height", pa.int64()), ("ab_width", pa.int64())]


def grey_from(row: dict[str, object]) -> npt.NDArray[np.uint8]:
    """The small grey image of a loaded row."""
    flat = np.frombuffer(row["grey"], np.uint8)  # type: ignore[call-overload]
    grey: npt.NDArray[np.uint8] = flat.reshape(row["grey_height"], row["grey_width"])
    return grey


def fitted_from(row: dict[str, Any]) -> Fitted:
    """The small grey image of a loaded row with its canvas and hints."""
    hints = np.frombuffer(row["hints"], np.float32).reshape(-1, 4)
    return Fitted(grey_from(row), hints, (row["canvas_height"], row["canvas_width"]))


def pages_from(row: dict[str, Any]) -> list[Fitted]:
    """The small grey images of all pages of a loaded row."""
    return [fitted_from(row), *(fitted_from({**page, "hints": b""}) for page in row["more"])]


def more_pages(pages: Sequence[tuple[int, Fitted]]) -> list[dict[str, object]]:
    """Further pages, by number, as stored in a row."""
    return [
        {
            "page": number,
            "grey": page.grey.tobytes(),
            "grey_height": page.shape[0],
            "grey_width": page.shape[1],
            "canvas_height": page.canvas[0],
            "canvas_width": page.canvas[1],
        }
        for number, page in pages
    ]


def more_colors(row: dict[str, Any], colors: Sequence[npt.NDArray[np.floating]]) -> list[dict[str, object]]:
    """The colors of a row's further pages, as stored in a row."""
    return [
        {"page": page["page"], "ab": ab.tobytes(), "ab_height": ab.shape[1], "ab_width": ab.shape[2]}
        for page, ab in zip(row["more"], colors, strict=True)
    ]


def colors_from(row: dict[str, Any]) -> npt.NDArray[np.float16] | dict[int, npt.NDArray[np.float16]]:
    """The low-resolution color of a predicted row, by page number if the row has several pages."""
    if row["page"] < 0:
        return ab_from(row)
    return {row["page"]: ab_from(row), **{page["page"]: ab_from(page) for page in row["more_ab"]}}


def ab_from(row: dict[str, object]) -> npt.NDArray[np.float16]:
    """The low-resolution color of a predicted row."""
    flat = np.frombuffer(row["ab"], np.float16)  # type: ignore[call-overload]
    ab: npt.NDArray[np.float16] = flat.reshape(2, row["ab_height"], row["ab_width"])
    return ab
