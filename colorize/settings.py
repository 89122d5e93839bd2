"""Settings: frozen, typed and strict, from a YAML file with `key=value` overrides on top.

Every job's settings are one tree of `Settings`. An unknown key is an error that suggests the nearest valid one, so a
misspelled option is never ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from colorize.errors import UsageError, one_line

Device = Literal["auto", "cpu", "cuda"]
Verbosity = Literal["quiet", "normal", "verbose"]  # warnings and errors; also progress; also the log


class Settings(BaseModel):
    """Base of every group of settings: immutable, unknown keys forbidden, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _one_word_is_a_list_of_one(cls, value: object, info: ValidationInfo) -> object:
        """Accepts one string where a list of strings is expected; a string with commas is an error."""
        kind = cls.model_fields[info.field_name or ""].annotation
        lists = [each for each in (kind, *get_args(kind)) if get_origin(each) in (list, tuple)]
        if not isinstance(value, str) or not any(get_args(each)[0] is str for each in lists):
            return value
        if "," in value:
            raise ValueError(f"write a list like {[word.strip() for word in value.split(',')]}")
        return [value]


S = TypeVar("S", bound=Settings)


def load_settings(cls: type[S], path: str | Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Settings from defaults, then the YAML file at `path`, then `key.sub=value` overrides, later ones winning.

    Raises:
        UsageError: an unreadable file, an unknown key (the message suggests the nearest) or an invalid value.
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
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.5)  # a name from a checkpoint may be long
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(known))})"


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"the configuration {path} is a {type(tree).__name__}; it must be a mapping")
    return tree


def parse_yaml(text: str | bytes) -> Any:
    """The parsed YAML. Raises YAMLError also where PyYAML raises other errors, as for an invalid date."""
    try:
        return yaml.safe_load(text)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise yaml.YAMLError(one_line(error)) from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not of the form key.name=value")
    for part in parts[:-1]:
        branch = tree[part] = {} if tree.get(part) is None else tree[part]  # null: an empty group
        if not isinstance(branch, dict):
            raise UsageError(f"--set {override!r}: {part!r} is a value, not a group of settings")
        tree = branch
    try:
        tree[parts[-1]] = parse_yaml(text)
    except yaml.YAMLError:
        tree[parts[-1]] = text


def _explain(cls: type[Settings], error: ValidationError) -> str:
    """One line for the first validation error: the key, the value, what is allowed."""
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
    """The nearest valid key at the level where `path` is wrong, or the same name in another group."""
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
