"""The actor between the training workers and the driver."""

from __future__ import annotations

from colorize.train.progress import Progress


class ProgressActor:
    """Carries progress from the first worker to the driver, and the request to stop back."""

    def __init__(self) -> None:
        self._latest: Progress | None = None
        self._epochs: list[dict[str, float]] = []
        self._stop = False
        self._failure: Exception | None = None

    def progress(self, progress: Progress) -> None:
        """For the first worker: sets the latest progress."""
        self._latest = progress

    def epoch(self, figures: dict[str, float]) -> None:
        """For the first worker: adds an epoch's metrics."""
        self._epochs.append(figures)

    def fail(self, error: Exception) -> None:
        """For workers: records an error after which a retry would not help."""
        self._failure = self._failure or error

    def failure(self) -> Exception | None:
        """The first error that was recorded by `fail`."""
        return self._failure

    def should_stop(self) -> bool:
        """Whether the driver asks to stop."""
        return self._stop

    def exchange(self, stop: bool) -> tuple[Progress | None, list[dict[str, float]]]:
        """For the driver: sets whether to stop, and returns new progress and metrics."""
        self._stop = stop
        news = self._latest, self._epochs
        self._latest, self._epochs = None, []
        return news
