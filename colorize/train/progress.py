"""Progress of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from colorize.report.durations import duration

GO_ON = "run the same command with --resume to continue"


@dataclass(frozen=True)
class Progress:
    """The progress to show.

    Attributes:
        epoch: from 1 on.
        done: fraction of the whole training, in [0, 1].
        loss: mean of the epoch so far.
        rate: images per second, of all workers.
        left: seconds to the end.
    """

    epoch: int
    done: float
    loss: float
    rate: float
    left: float

    def line(self) -> str:
        """`epoch 2, 31.4 %, loss 3.2100, 240.0 images/s, 3m20s left`."""
        return (
            f"epoch {self.epoch}, {100 * self.done:.1f} %, loss {self.loss:.4f}, {self.rate:.1f} images/s, "
            f"{duration(self.left)} left"
        )


class Reporter(Protocol):
    """Receives progress from the loop."""

    def progress(self, progress: Progress) -> None:
        """Called on the first worker, every few steps."""
        ...

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Called on every worker after each epoch. Only the first worker has metrics."""
        ...

    def should_stop(self) -> bool:
        """Whether to save the state and stop."""
        ...
