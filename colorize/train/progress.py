"""What a training tells of itself while it runs, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from colorize.report.durations import duration

GO_ON = "give the same command with --resume to go on"


@dataclass(frozen=True)
class Progress:
    """What a person sees of a training.

    Attributes:
        epoch: which one it is, from 1 on.
        done: how much of the whole training is, in [0, 1].
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
    """Whom the loop tells how it goes."""

    def progress(self, progress: Progress) -> None:
        """On the first worker, every few steps."""
        ...

    def epoch(self, figures: Mapping[str, float]) -> None:
        """After each epoch, on every worker; the figures are the first one's, others bring none."""
        ...

    def stopped(self) -> bool:
        """Whether the loop is asked to save its state and end."""
        ...
