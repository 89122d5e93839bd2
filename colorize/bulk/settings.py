"""The settings of the bulk job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from colorize.cluster.settings import PoolSettings
from colorize.datasets.settings import SourceSettings
from colorize.predict.settings import DEFAULT_MODEL, RENDERING, ColorSettings, CopySettings
from colorize.settings import Settings, Verbosity

Policy = Literal["color", "skip", "copy"]


class TriageSettings(Settings):
    """The policy for each kind of image: color it, skip it, or copy its file unchanged to the output."""

    color: Policy = Field("skip", description="already in color")
    grey: Policy = Field("color", description="one channel")
    grey_as_rgb: Policy = Field("color", description="three channels, no color in them")
    toned: Policy = Field("color", description="sepia or another tone, a color cast")
    blank: Policy = Field("color", description="no content")
    text: Policy = Field("color", description="a page of text")
    negative: Policy = Field("color", description="color negative film")


class OutputSettings(CopySettings):
    """How the colored images are encoded and stored."""

    write_threads: int = Field(8, ge=1, le=256, description="concurrent uploads per write task")
    manifest_rows: int = Field(500_000, ge=1, description="rows per file of the finished manifest")


class RunSettings(Settings):
    """Settings of the job that do not affect any pixel."""

    confidence: bool = Field(
        True, description="compute the confidence; networks that predict no distribution then run twice"
    )
    tolerate_failures: float = Field(0.0, ge=0, le=1, description="fraction of inputs that may fail with exit 0")
    start_seconds: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="timeout for getting the CPUs and GPUs that the plan needs"
    )
    stall_seconds: float = Field(300.0, gt=0, description="abort after this time without a finished image")
    log_seconds: float = Field(5.0, gt=0, description="interval of the progress lines in the log")
    log_format: Literal["text", "json"] = Field(
        "text", description="json: one object per line, with the run's id, for log collectors"
    )


class BulkSettings(ColorSettings):
    """All settings of `colorize bulk` except its input, output and model."""

    source: SourceSettings = SourceSettings()
    triage: TriageSettings = TriageSettings()
    pool: PoolSettings = PoolSettings()
    output: OutputSettings = OutputSettings()
    run: RunSettings = RunSettings()

    def pixels_digest(self) -> str:
        """SHA-256 of the settings that affect a colored image: the manifest's `settings_sha256`.

        Limits and triage are not included: a later run checks them for each row.
        """
        included: dict[str, Any] = {
            "colorizer": True,
            "pool": {"device"},
            "output": {"subsampling", "digital_source_type", "processing", "pages"},
        }
        pixels = self.model_dump(mode="json", include=included) | {"rendering": RENDERING}
        return hashlib.sha256(json.dumps(pixels, sort_keys=True).encode()).hexdigest()


Verify = Literal["stat", "hash"]


@dataclass(frozen=True)
class Resume:
    """How a run uses the results of earlier runs."""

    fresh: bool = False  # not at all: everything is redone
    retry_failed: bool = False
    verify: Verify = "stat"


@dataclass(frozen=True)
class BulkJob:
    """The arguments of one bulk run."""

    input: str
    output: str
    model: str = DEFAULT_MODEL
    input_list: str | None = None
    ray_address: str | None = None
    settings: BulkSettings = field(default_factory=BulkSettings)
    command: tuple[str, ...] = ()
    resume: Resume = field(default_factory=Resume)
    hints: str | None = None
    limit: int | None = None  # maximum number of inputs
    verbosity: Verbosity = "normal"
