"""Colors images one at a time in a child process, after a batch has crashed its predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from colorize.imaging.canvas import Fitted
from colorize.imaging.hinting import GreyInput
from colorize.imaging.sandbox import START_SECONDS, Fault, Guarded
from colorize.imaging.settings import LimitSettings
from colorize.predict.colorizer import Colored, Colorizer
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings


@dataclass(frozen=True)
class NetworkSource:
    """A picklable network that is loaded on first use, in each process."""

    checkpoint: Callable[[], bytes]
    settings: ColorizerSettings
    device: str
    threads: int
    batch_size: int
    confidence: bool

    @cached_property
    def colorizer(self) -> Colorizer:
        """The network on its device.

        Sets the number of threads, because Ray sizes OpenMP's pool when it starts a worker process, and may reuse the
        process with another share of the CPUs.
        """
        return open_colorizer(
            self.checkpoint(), self.settings, device=self.device, batch_size=self.batch_size, threads=self.threads
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "colorizer"}

    def __call__(self, grey: GreyInput | Fitted) -> Colored:
        """The color of one image."""
        return self.colorizer.color([grey], confidence=self.confidence)[0]


class IsolatedPredictor:
    """Colors images one at a time in a child process with its own network, which is restarted if it dies."""

    def __init__(self, network: NetworkSource) -> None:
        limits = LimitSettings(seconds=START_SECONDS, memory_mb=0)  # the first call loads the network
        self.color = Guarded(network, limits, isolated=True)

    def __call__(self, greys: Sequence[GreyInput | Fitted]) -> list[Colored | Fault]:
        """The colors of the images, or a fault for an image that crashes the process."""
        return [self.color(grey) for grey in greys]

    def close(self) -> None:
        """Stops the child process."""
        self.color.close()
