"""Settings: frozen, typed and strict. A YAML file, `key=value` overrides on top, and an error for what is neither.

Every job's settings are one tree of `Settings`. An unknown key is refused with the nearest right one, so a
misspelt option can never be read nowhere.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

Device = Literal["auto", "cpu", "cuda"]


class UsageError(ValueError):
    """Wrong usage or configuration (exit status 2): the message names the value, the limit and the way out."""


EXIT_STOPPED = 130  # as of a shell command that Ctrl-C has ended


class StoppedError(RuntimeError):
    """A job that ended for a reason outside of it: one line that says what to do, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Settings(BaseModel):
    """Base of every group of settings: immutable, unknown keys forbidden, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _one_word_is_a_list_of_one(cls, value: object, info: ValidationInfo) -> object:
        """Where words are listed; several of them in one string would be a pattern or name that nothing has."""
        kind = cls.model_fields[info.field_name or ""].annotation
        lists = [each for each in (kind, *get_args(kind)) if get_origin(each) in (list, tuple)]
        if not isinstance(value, str) or not any(get_args(each)[0] is str for each in lists):
            return value
        if "," in value:
            raise ValueError(f"write a list like {[word.strip() for word in value.split(',')]}")
        return [value]


class SourceSettings(Settings):
    """How inputs are found and read."""

    image_column: str = Field("image", description="Parquet column with encoded bytes or a {bytes, path} struct")
    include: tuple[str, ...] = Field((), description="glob patterns; files that match none are skipped")
    rows_per_task: int = Field(16, ge=1, le=4096, description="pictures that one load task fetches and decodes")
    fetch_threads: int = Field(16, ge=1, le=256, description="concurrent reads within one load task")
    inline_bytes: int = Field(
        16 << 20, ge=0, description="larger files are read again by the writer instead of travelling between stages"
    )


class SizeLimits(Settings):
    """Which pictures are refused for their size."""

    max_pixels: int = Field(400_000_000, ge=1, description="larger pictures fail as `too_large`")
    min_side: int = Field(1, ge=1, description="pictures with a shorter side fail as `too_small`")
    max_bytes: int = Field(4 << 30, ge=1, description="larger files fail as `too_large`, and are not read")


class LimitSettings(SizeLimits):
    """What one picture may cost before it is refused."""

    seconds: float = Field(
        120.0, gt=0, allow_inf_nan=False, description="for decoding a picture, or for making its copy; else `too_slow`"
    )
    memory_mb: int = Field(
        4096, ge=0, description="for one picture in a process of its own; else `out_of_memory`; 0: no limit"
    )


Policy = Literal["color", "skip", "copy"]


class TriageSettings(Settings):
    """What becomes of each kind of picture: color it, skip it, or copy its file unchanged to the output."""

    color: Policy = Field("skip", description="already in color")
    grey: Policy = Field("color", description="one channel")
    grey_as_rgb: Policy = Field("color", description="three channels, no color in them")
    toned: Policy = Field("color", description="sepia or another tone, a cast")
    blank: Policy = Field("color", description="nothing to be seen")
    text: Policy = Field("color", description="a page of text")
    negative: Policy = Field("color", description="color negative film")


class ColorizerSettings(Settings):
    """What the network sees, and how it runs."""

    size: int = Field(
        256,
        ge=32,
        le=1024,
        description="the network sees about size x size pixels, aspect kept; one made for another size sees that",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of the network; auto is bfloat16 on hardware that has it, else float32"
    )
    temperature: float | None = Field(
        None,
        ge=0.05,
        le=4,
        description="of networks with color bins: 1 is the mean of the likely, lower is bolder; None: the model's own",
    )
    saturation: float = Field(
        1.0, ge=0, le=3, description="factor of the colors' strength: below 1 paler, above 1 more vivid and less right"
    )


class PoolSettings(Settings):
    """The actors that hold the network. `None` means: sized from the cluster."""

    device: Device = "auto"
    min: int | None = Field(None, ge=1, description="predictors that are always up")
    max: int | None = Field(None, ge=1, description="predictors at most")
    batch_size: int | None = Field(None, ge=1, le=4096, description="pictures of one shape in a forward pass of a GPU")
    cpus_per_actor: float | None = Field(
        None, ge=0.01, allow_inf_nan=False, description="CPUs (and threads) of a predictor"
    )
    gpus_per_actor: float | None = Field(None, ge=0, description="GPUs of a predictor; 0.5 puts two on one GPU")

    @model_validator(mode="after")
    def _minimum_within_maximum(self) -> PoolSettings:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"pool.min={self.min} is above pool.max={self.max}")
        return self


class OutputSettings(Settings):
    """How the colored pictures are written."""

    subsampling: Literal["4:2:0", "4:4:4"] = Field(
        "4:2:0", description="resolution of a JPEG's color: half of the picture's each way, or all of it"
    )
    processing: Literal["ours", "upstream"] = Field(
        "ours", description="upstream: a published network sees and gives pictures as its authors' programs have it"
    )
    digital_source_type: Literal[
        "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia",
        "compositeSynthetic", "algorithmicMedia",
    ] = Field(
        "algorithmicallyEnhanced", description="what the XMP calls the copy, a term of the IPTC's NewsCodes"
    )  # fmt: skip
    write_threads: int = Field(8, ge=1, le=256, description="concurrent uploads within one write task")
    manifest_rows: int = Field(500_000, ge=1, description="rows of one file of the finished manifest")

    @field_validator("subsampling", mode="before")
    @classmethod
    def _not_a_number(cls, value: object) -> object:
        """YAML 1.1 takes an unquoted 4:2:0 for a number in base 60."""
        sexagesimal = {4 * 3600 + 2 * 60: "4:2:0", 4 * 3600 + 4 * 60 + 4: "4:4:4"}
        return sexagesimal.get(value, value) if isinstance(value, int) else value


class RunSettings(Settings):
    """How the job itself behaves; none of these changes a pixel."""

    confidence: bool = Field(
        True, description="ask the network how sure it is; one that predicts no distribution then runs twice"
    )
    tolerate_failures: float = Field(0.0, ge=0, le=1, description="fraction of inputs that may fail with exit 0")
    start_seconds: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="how long to wait for the CPUs and GPUs that the plan needs"
    )
    device_seconds: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="after so long with GPUs, or with none, a job with pool.device=auto changes its device",
    )
    stall_seconds: float = Field(300.0, gt=0, description="give up after so long without one finished picture")
    log_seconds: float = Field(5.0, gt=0, description="interval of the progress lines in the log")
    log_format: Literal["text", "json"] = Field(
        "text", description="json: an object a line, with the run's id, for machines that collect logs"
    )


class BulkSettings(Settings):
    """Everything that `colorize bulk` can be told beside its input, output and model."""

    source: SourceSettings = SourceSettings()
    limits: LimitSettings = LimitSettings()
    triage: TriageSettings = TriageSettings()
    colorizer: ColorizerSettings = ColorizerSettings()
    pool: PoolSettings = PoolSettings()
    output: OutputSettings = OutputSettings()
    run: RunSettings = RunSettings()

    def pixels_digest(self) -> str:
        """SHA-256 of the settings that can change a colored picture: the manifest's `settings_sha256`.

        Limits and triage say which pictures are colored at all: a later run asks them again, row by row.
        """
        included: dict[str, Any] = {
            "colorizer": True,
            "pool": {"device"},
            "output": {"subsampling", "digital_source_type", "processing"},
        }
        pixels = self.model_dump(mode="json", include=included)
        return hashlib.sha256(json.dumps(pixels, sort_keys=True).encode()).hexdigest()


S = TypeVar("S", bound=Settings)


def load_settings(cls: type[S], path: str | Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Settings from defaults, then the YAML file at `path`, then `key.sub=value` overrides, later ones winning.

    Raises:
        UsageError: an unreadable file, an unknown key (with the nearest right one) or a refused value.
    """
    tree = _read_yaml(path) if path else {}
    for override in overrides:
        _apply_override(tree, override)
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(cls, error)) from None


def save_settings(settings: Settings) -> str:
    """The resolved settings as YAML that `load_settings` reads back to an equal object."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def nearest(name: str, known: Sequence[str]) -> str:
    """ " (did you mean 'x'?)" for the closest known name, or the list of all, to end an error message with."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(known))})"


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"the configuration {path} holds a {type(tree).__name__}; it must hold keys and values")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not of the form key.name=value")
    for part in parts[:-1]:
        branch = tree[part] = {} if tree.get(part) is None else tree[part]  # null: a group that is left out
        if not isinstance(branch, dict):
            raise UsageError(f"--set {override!r}: {part!r} is a value, not a group of settings")
        tree = branch
    try:
        tree[parts[-1]] = yaml.safe_load(text)
    except yaml.YAMLError:
        tree[parts[-1]] = text


def _explain(cls: type[Settings], error: ValidationError) -> str:
    """One line for the first fault of a validation: the key, the value, what is allowed."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}" + _suggest(cls, path)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("list_type", "tuple_type"):
        message = "write a list like ['a', 'b']"
    if not key or isinstance(first["input"], Mapping | Settings):
        return f"{key + ': ' if key else ''}{message}"
    return f"{key}={first['input']!r}: {message[0].lower()}{message[1:]}"


def _suggest(cls: type[Settings], path: Sequence[str]) -> str:
    """The nearest right key at the level where `path` goes wrong, or the same name in another group."""
    group: type[Settings] | None = cls
    for part in path[:-1]:
        group = _group_of(group, part)
        if group is None:
            return ""
    assert group is not None
    elsewhere = [key for key in _all_keys(cls) if key.split(".")[-1] == path[-1]]
    if elsewhere:
        return f" (did you mean {elsewhere[0]!r}?)"
    prefix = "".join(f"{part}." for part in path[:-1])
    return nearest(".".join(path), [prefix + name for name in group.model_fields])


def _group_of(cls: type[Settings] | None, name: str) -> type[Settings] | None:
    if cls is None or name not in cls.model_fields:
        return None
    annotation = cls.model_fields[name].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None


def _all_keys(cls: type[Settings], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in cls.model_fields:
        group = _group_of(cls, name)
        keys += _all_keys(group, f"{prefix}{name}.") if group else [prefix + name]
    return keys
