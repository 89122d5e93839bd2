"""README and docs name only existing options, settings, files and error codes. `test_walk.py` runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from colorize.bulk.settings import BulkSettings
from colorize.cli import app
from colorize.errors import UsageError
from colorize.evaluate.settings import EvaluateSettings
from colorize.predict.settings import PhotoSettings
from colorize.settings import Settings, load_settings
from colorize.train.settings import TrainSettings
from tests.documents import DOCUMENTS, ROOT, code, options

TREES: dict[str, type[Settings]] = {
    "bulk": BulkSettings,
    "photo": PhotoSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
}
OF_OTHERS = {  # options of other programs in the documents
    "ray job": {"--runtime-env", "--no-wait", "--follow"},
    "ray start": {"--head"},
    "ray get-auth-token": {"--generate"},
    "pip install": {"--constraint", "-e"},
    "python": {"-m"},
    "docker": {"--tag", "--rm", "-v", "-e", "-u", "--user", "--shm-size"},
    "kubectl": {"-f", "-l", "--follow"},
    "jpegtran": {"-grayscale"},
}
SETTING = re.compile(r"(?<![\w.-])((?:[a-z_]+\.)+[a-z_]+)=('[^']*'|\[[^\]]*\]|\{[^}]*\}|[^\s,;)\"]+)")
PATH = re.compile(r"(?<![\w/.:-])((?:colorize|tests|benchmarks|scripts|configs|jobs|docs)/[\w/.-]+\.(?:py|yaml|md))")
MODULE = re.compile(r"python -m ((?:benchmarks|scripts)\.\w+)")
DOTTED = re.compile(r"(?:(?:[a-z_]+\.)+[a-z_]+)")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def commands_of_ours() -> dict[str, set[str]]:
    """The options of each command, by its words: `photo`, `models download`."""
    found: dict[str, set[str]] = {}

    def note(command: Any, name: str) -> None:
        found[name] = {word for each in command.params for word in (*each.opts, *each.secondary_opts)}
        found[name] |= {"--help", "-h"}
        for child, inner in getattr(command, "commands", {}).items():
            note(inner, f"{name} {child}".strip())

    note(typer.main.get_command(app), "")
    return found


OURS = commands_of_ours()


def program(command: str) -> str:
    """The `colorize` command line in a command, or "": jobs take the options of the command they run."""
    if job := re.search(r"jobs/(?:bulk_colorize|train|evaluate)\.py", command):
        return {"bulk_colorize": "bulk"}.get(Path(job[0]).stem, Path(job[0]).stem)
    typed = re.match(r"colorize((?: [a-z-]+)*)", command)
    named = typed[1].strip() if typed else ""
    while named and named not in OURS:
        named = named.rpartition(" ")[0]
    return named


@each_document
def test_every_option_belongs_to_its_command(document: Path) -> None:
    for command in code(document):
        if name := program(command):
            ours = command.split(" -- ")[-1]
            assert set(options(ours)) <= OURS[name], f"{command!r}: `colorize {name}` has no such option"


@each_document
def test_every_option_exists(document: Path) -> None:
    """An option on its own belongs to colorize, a benchmark that the document names, or a known other program."""
    text = document.read_text()
    sources = "".join((ROOT / f"{name.replace('.', '/')}.py").read_text() for name in MODULE.findall(text))
    sources += "".join((ROOT / name).read_text() for name in re.findall(r"python (scripts/\w+\.py)", text))
    known = set[str]().union(*OURS.values(), *OF_OTHERS.values())
    for command in code(document):
        for option in options(command):
            of_a_benchmark = re.search(rf"\b{option.lstrip('-').replace('-', '[-_]')}\b", sources)
            assert option in known or of_a_benchmark, f"{option} in {command!r}"


def settings_in(document: Path) -> Iterator[tuple[str, str]]:
    """Each `group.key=value` that a document sets as code."""
    for span in code(document):
        yield from SETTING.findall(span)


@each_document
def test_every_setting_exists_and_accepts_the_documented_value(document: Path) -> None:
    for key, value in settings_in(document):
        text = value.rstrip(":").strip("'").replace("...", "1")
        refusals = [refusal for tree in TREES.values() if (refusal := refused(tree, f"{key}={text}"))]
        assert len(refusals) < len(TREES), f"{key}={value}: {refusals}"


def refused(tree: type[Settings], override: str) -> str:
    """Why a tree of settings refuses an override; "" if it does not."""
    needed = ["model.name=unet"] if tree is TrainSettings and not override.startswith("model.name") else []
    try:
        load_settings(tree, overrides=[*needed, override])
    except UsageError as error:
        return str(error)
    return ""


@each_document
def test_every_setting_mentioned_exists(document: Path) -> None:
    groups = {name for tree in TREES.values() for name in tree.model_fields}
    for span in code(document):
        if DOTTED.fullmatch(span) and span.split(".")[0] in groups and not span.endswith((".py", ".yaml", ".json")):
            assert any(has(tree, span.split(".")) for tree in TREES.values()), f"there is no setting {span!r}"


def has(tree: Any, path: list[str]) -> bool:
    """Whether a tree of settings has a group or a value at this path."""
    defaults = load_settings(tree, overrides=["adversarial={}"] if tree is TrainSettings else [])
    value: Any = defaults
    for part in path:
        if not isinstance(value, Settings):
            return isinstance(value, dict)  # a network's own arguments
        if part not in type(value).model_fields:
            return False
        value = getattr(value, part)
    return True


@each_document
def test_every_file_mentioned_exists(document: Path) -> None:
    for span in code(document):
        for name in PATH.findall(span):
            assert (ROOT / name).exists(), f"{name} in {span!r}"
        for module in MODULE.findall(span):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@each_document
def test_every_link_target_exists(document: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
        if target.startswith("http"):
            continue
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not section or section in sections(path), f"{target}#{section}"


def sections(document: Path) -> set[str]:
    """The headings, as links name them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_documented_error_code_occurs() -> None:
    table = (ROOT / "docs/manifest.md").read_text().split("| `error` | means |")[1].split("| exit status")[0]
    source = "".join(path.read_text() for path in (ROOT / "colorize").rglob("*.py"))
    codes = [name for row in re.findall(r"^\| (`[^|]+)\|", table, re.M) for name in re.findall(r"`(\w+)`", row)]
    assert len(codes) > 20
    for name in codes:
        assert re.search(rf"[\"']{name}[\"']", source) or name.startswith("triage_"), name
