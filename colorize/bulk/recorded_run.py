"""Reads `run.json` of an untrusted output, with validated types and sizes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from colorize.bulk.ledger.manifest import RUN_FILE
from colorize.errors import UsageError
from colorize.storage.faults import why_unusable
from colorize.storage.root import Storage

MOST_BYTES = 16 << 20

Word = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=10_000)]
Number = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Leaf = Text | float | bool | None
Value = Leaf | list[Leaf]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class RecordedModel(_Recorded):
    """The model of the run."""

    name: Text
    architecture: Word
    sha256: Word


class RecordedPlan(_Recorded):
    """The predictors of the run."""

    min_actors: int
    max_actors: int
    device: Word
    cpus_per_actor: Number


class RecordedRun(_Recorded):
    """The fields of `run.json` that the page of a run shows."""

    state: Word
    command: list[Text]
    input: Text
    output: Text
    model: RecordedModel
    settings: dict[Word, Value | dict[Word, Value]]
    settings_sha256: Word
    plan: RecordedPlan | None = None
    versions: dict[Word, Word]
    started: Word
    finished: Word | None = None
    seconds: Number
    seconds_to_first_output: Number | None = None
    pictures_per_second: Number

    @property
    def started_at(self) -> datetime:
        """`started` as a time. Raises ValidationError."""
        return TypeAdapter(AwareDatetime).validate_python(self.started)

    @property
    def image_column(self) -> str:
        """The image column of archives."""
        source = self.settings.get("source")
        column = source.get("image_column") if isinstance(source, dict) else None
        return column if isinstance(column, str) else "image"


def read_run(target: Storage) -> RecordedRun:
    """Reads `run.json` of the run in `target`.

    Raises:
        UsageError: there is no bulk run, or its `run.json` is invalid.
    """
    try:
        data = target.load(RUN_FILE, -1, MOST_BYTES, MOST_BYTES)
        run = RecordedRun.model_validate_json(data[:])
        _ = run.started_at
    except FileNotFoundError:
        raise UsageError(f"{target.url()} is not the output of a bulk run: there is no {RUN_FILE}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{target.url(RUN_FILE)} is invalid: {place}: {first['msg']}") from None
    except Exception as error:  # every storage library has its own exceptions
        raise UsageError(f"cannot read {target.url(RUN_FILE)}: {why_unusable(error)}") from None
    return run
