"""An actor between the workers of a training and the process that started it."""

from __future__ import annotations

from colorize.train.progress import Progress


class ProgressActor:
    """The first worker says here how it goes; the driver shows that, and may want the training to stop."""

    def __init__(self) -> None:
        self._latest: Progress | None = None
        self._epochs: list[dict[str, float]] = []
        self._stop = False
        self._failure: Exception | None = None

    def progress(self, progress: Progress) -> None:
        """From the worker: the latest."""
        self._latest = progress

    def epoch(self, figures: dict[str, float]) -> None:
        """From the worker: an epoch is done."""
        self._epochs.append(figures)

    def fail(self, error: Exception) -> None:
        """From a worker: training cannot go on, and trying again would not help."""
        self._failure = self._failure or error

    def failure(self) -> Exception | None:
        """For workers that are started anew, and for the driver: what `fail` was told."""
        return self._failure

    def stopped(self) -> bool:
        """For the worker: whether it is to stop."""
        return self._stop

    def news(self, stop: bool) -> tuple[Progress | None, list[dict[str, float]]]:
        """For the driver, which says whether the training is to stop: what has not been shown yet."""
        self._stop = stop
        news = self._latest, self._epochs
        self._latest, self._epochs = None, []
        return news
