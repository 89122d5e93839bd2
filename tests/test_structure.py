"""The shape of the code: which way imports go, where Ray may be known, and what a script's folder must not hide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "colorize").rglob("*.py")) + sorted((ROOT / "jobs").glob("*.py"))

# From the bottom up: a module may import from layers below its own, and from its own.
LAYERS = (
    (
        "colorize",
        "colorize.config",
        "colorize.colorimetry",
        "colorize.destinations",
        "colorize.durations",
        "colorize.outcome",
    ),
    ("colorize.color", "colorize.image_io", "colorize.triage", "colorize.blotches"),
    ("colorize.models",),
    (
        "colorize.checkpoint",
        "colorize.compose",
        "colorize.confidence",
        "colorize.hinting",
        "colorize.metrics",
        "colorize.upsample",
    ),
    ("colorize.colorizer", "colorize.render", "colorize.upstream"),
    ("colorize.data",),
    (
        "colorize.photo",
        "colorize.export",
        "colorize.restore",
        "colorize.train",
        "colorize.inference",
        "colorize.evaluation",
        "colorize.report",
    ),
    ("colorize.history", "colorize.enlarge"),
    ("colorize.cli",),
    ("jobs", "colorize.__main__"),
)
KNOW_RAY = ("jobs", "colorize.cli", "colorize.data.sources", "colorize.data.sinks", "colorize.inference",
            "colorize.train.loop", "colorize.train.launch")  # fmt: skip


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(name: str) -> int:
    """The layer of the longest entry that `name` lies within."""
    found = [
        (len(entry), number)
        for number, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or (entry != "colorize" and name.startswith(f"{entry}."))
    ]
    assert found, f"{name} has no layer: add it to LAYERS in {Path(__file__).name}"
    return max(found)[1]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downward(path: Path) -> None:
    name = module_name(path)
    upward = [target for target in imports(path) if is_within(target, "colorize") and layer(target) > layer(name)]
    assert not upward, f"{name} imports from a layer above its own"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_ray_is_known_only_where_it_belongs(path: Path) -> None:
    name = module_name(path)
    if not any(is_within(name, room) for room in KNOW_RAY):
        assert not [target for target in imports(path) if is_within(target, "ray")]


def test_decoding_and_writing_workers_need_no_torch() -> None:
    """Importing torch costs such a worker seconds and 300 MB, so nothing that it imports may import torch."""
    reached, queue = set[str](), ["colorize.inference.load", "colorize.inference.write"]
    files = {module_name(path): path for path in MODULES}
    while queue:
        name = queue.pop()
        if name in reached or name not in files:
            continue
        reached.add(name)
        found = list(imports(files[name]))
        assert not [target for target in found if is_within(target, "torch")], f"{name} imports torch"
        queue += found


def test_no_job_hides_the_package() -> None:
    assert not (ROOT / "jobs" / "colorize.py").exists()
