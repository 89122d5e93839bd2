"""The parameters and results of an evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from colorize.evaluate.candidates import Candidate
from colorize.evaluate.metrics import METRICS
from colorize.evaluate.scores import Comparison, ConfidenceQuality, Scores
from colorize.evaluate.settings import EvaluateSettings
from colorize.metrics import Interval


@dataclass(frozen=True)
class EvaluateJob:
    """The parameters of an evaluation."""

    models: tuple[str, ...]
    data: str
    output: str
    split: str = "val"
    limit: int | None = None
    ray_address: str | None = None
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)
    command: tuple[str, ...] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation."""

    job: EvaluateJob
    candidates: list[Candidate]
    scores: Scores
    summary: dict[str, dict[str, Interval]]
    comparisons: list[Comparison]
    confidence: dict[str, ConfidenceQuality]
    left_out: str  # why metrics are missing
    supplied: dict[str, dict[str, str]]  # path and sha256 of supplied weights, by metric
    seconds: float

    @property
    def broken_fraction(self) -> float:
        """Fraction of the split's images that are broken."""
        return len(self.scores.broken) / max(1, self.scores.count + len(self.scores.broken))

    def as_dict(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        job, scores = self.job, self.scores
        return {
            "command": list(job.command),
            "data": job.data,
            "split": job.split,
            "limit": job.limit,
            "pictures": scores.count,
            "broken": dict(scores.errors().most_common()),
            "broken_pictures": [asdict(item) for item in scores.broken[:100]],
            "models": {
                c.label: {"name": c.file.name, "architecture": c.file.architecture, "sha256": c.file.sha256}
                | {"figures": {name: asdict(interval) for name, interval in self.summary[c.label].items()}}
                for c in self.candidates
            },
            "true": {name: float(values.mean()) for name, values in scores.true_columns.items()},
            "confidence": {label: asdict(item) for label, item in self.confidence.items()},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "figures": {name: asdict(metric) for name, metric in METRICS.items()},
            "left_out": self.left_out,
            "supplied_weights": self.supplied,
            "settings": job.settings.model_dump(mode="json"),
            "versions": {name: version(name) for name in ("colorize", "ray", "torch", "numpy", "pillow")},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
        }
