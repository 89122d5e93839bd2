"""The interface of a network for the colorizer, independent of the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


class Prediction(NamedTuple):
    """The output of a network for a batch.

    Attributes:
        ab: (B, 2, h, w), Lab units, float32, at the network's resolution.
        uncertainty: (B, h, w) in [0, 1], or None if not requested (see `colorize.predict.confidence`).
    """

    ab: Float
    uncertainty: Float | None


class Network(Protocol):
    """A network in one runtime, on one device.

    Attributes:
        stride: the sides of an input are multiples of it.
        canvas: approximate side of its fixed input size; None if it takes any size.
        takes_hints: whether it takes planes of color hints.
        device: "cpu" or "cuda".
    """

    stride: int
    canvas: int | None
    takes_hints: bool
    device: str

    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        """Starts a forward pass; returns a function that waits for the result.

        Args:
            grey_B1HW: uint8.
            hints_BCHW: hint planes; empty if there are none.
            confidence: whether to compute the uncertainty as well.
        """
        ...

    def move(self, device: str) -> None:
        """Moves the network to `device`, which may be the current one, and frees cached memory."""
        ...
