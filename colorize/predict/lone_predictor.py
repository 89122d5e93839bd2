"""Colors images one by one in a child process, after a batch has killed its predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from colorize.imaging.canvas import Fitted
from colorize.imaging.hinting import Seen
from colorize.imaging.sandbox import START_SECONDS, Fault, Guarded
from colorize.imaging.settings import LimitSettings
from colorize.predict.colorizer import Colored, Colorizer
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings


@dataclass(frozen=True)
class NetworkSource:
    """How a process gets its copy of the network: picklable, loads it when first asked."""

    checkpoint: Callable[[], bytes]
    settings: ColorizerSettings
    device: str
    threads: int
    batch_size: int
    confidence: bool

    @cached_property
    def colorizer(self) -> Colorizer:
        """The network on its device.

        Ray sizes OMP's pool when it starts a worker process and reuses the process later with other shares of the
        CPUs, so the threads are set here.
        """
        return open_colorizer(
            self.checkpoint(), self.settings, device=self.device, batch_size=self.batch_size, threads=self.threads
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "colorizer"}

    def __call__(self, grey: Seen | Fitted) -> Colored:
        """The color of one image."""
        return self.colorizer.color([grey], confidence=self.confidence)[0]


class LonePredictor:
    """Colors images one by one in a child process, which holds its own network and is replaced when it dies."""

    def __init__(self, network: NetworkSource) -> None:
        limits = LimitSettings(seconds=START_SECONDS, memory_mb=0)  # the first call loads the network
        self.color = Guarded(network, limits, isolated=True)

    def __call__(self, greys: Sequence[Seen | Fitted]) -> list[Colored | Fault]:
        """The colors of the images; where one kills the process that colors it, its fault."""
        return [self.color(grey) for grey in greys]

    def close(self) -> None:
        """Ends the child process."""
        self.color.close()
