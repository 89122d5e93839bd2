"""What a colorizer asks of a network, whichever runtime executes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


class Prediction(NamedTuple):
    """What a network says of a batch.

    Attributes:
        ab: (B, 2, h, w), Lab units, float32, at the network's resolution.
        doubt: (B, h, w) in [0, 1], where it was asked for (see `colorize.predict.confidence`).
    """

    ab: Float
    doubt: Float | None


class Network(Protocol):
    """A network in one runtime, on one device.

    Attributes:
        stride: the sides of an input are multiples of it.
        canvas: about the side of the only squares that it sees; None: any area will do.
        takes_hints: it takes planes of color hints beside the grey.
        device: "cpu" or "cuda".
    """

    stride: int
    canvas: int | None
    takes_hints: bool
    device: str

    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        """Begins a forward pass; what comes back waits for its end. `confidence` asks for the doubt as well."""
        ...

    def move(self, device: str) -> None:
        """Continues on `device`, which may be the present one; either way memory that is only cached is freed."""
        ...
