"""The shape of the code: which package may import which, where Ray may be known, and what no script may hide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "colorize").rglob("*.py")) + sorted((ROOT / "jobs").glob("*.py"))

# The drawing of docs/architecture.md: what each package may import, beside itself. Nothing else, and no circle.
BASE = {"errors", "settings", "__init__"}
IMAGING = BASE | {"imaging"}
STORES = IMAGING | {"models", "storage", "metrics"}
SERVICES = STORES | {"datasets", "predict", "report", "cluster"}
JOBS = ("bulk", "train", "evaluate")
MAY_IMPORT = {
    "__init__": set[str](),  # the Python API imports `predict` when it is used, by name
    "errors": set(),
    "settings": {"errors"},
    "metrics": BASE,
    "imaging": BASE,
    "models": IMAGING,
    "storage": IMAGING,
    "datasets": IMAGING | {"storage"},
    "report": IMAGING | {"storage"},
    "cluster": BASE | {"storage"},
    "predict": IMAGING | {"models", "storage", "datasets"},
    **dict.fromkeys(JOBS, SERVICES),
    "cli": SERVICES | set(JOBS),
    "__main__": {"cli"},
    "jobs": {"cli"},
}
LOOSE = {"__init__", "__main__", "cli", "errors", "settings"}  # what may lie in the package's top
KNOW_RAY = ("jobs", "colorize.cli", "colorize.cluster", "colorize.bulk", "colorize.train.job", "colorize.train.worker",
            "colorize.evaluate")  # fmt: skip
KNOW_NO_RAY = ("colorize.bulk.ledger",)


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


def package(name: str) -> str:
    """`colorize.bulk.job` -> `bulk`; `colorize` -> `__init__`; `jobs.train` -> `jobs`."""
    top, _, rest = name.partition(".")
    return (rest.split(".")[0] or "__init__") if top == "colorize" else top


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_package_imports_only_what_the_drawing_allows(path: Path) -> None:
    own = package(module_name(path))
    others = {package(target) for target in imports(path) if is_within(target, "colorize")} - {own}
    assert others <= MAY_IMPORT[own], f"{module_name(path)} imports {sorted(others - MAY_IMPORT[own])}"


def test_the_drawing_has_no_circle() -> None:
    done = set[str]()
    while len(done) < len(MAY_IMPORT):
        ready = {name for name, below in MAY_IMPORT.items() if name not in done and below - {name} <= done}
        assert ready, f"circle among {sorted(MAY_IMPORT.keys() - done)}"
        done |= ready


def test_only_the_entry_points_lie_loose() -> None:
    assert {path.stem for path in (ROOT / "colorize").glob("*.py")} <= LOOSE


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_ray_is_known_only_where_it_belongs(path: Path) -> None:
    name = module_name(path)
    if any(is_within(name, room) for room in KNOW_NO_RAY) or not any(is_within(name, room) for room in KNOW_RAY):
        assert not [target for target in imports(path) if is_within(target, "ray")]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_private_parts_of_ray_are_used_in_one_package(path: Path) -> None:
    if package(module_name(path)) != "cluster":
        private = [t for t in imports(path) if is_within(t, "ray") and any(p.startswith("_") for p in t.split("."))]
        assert not private


def test_decoding_and_writing_workers_need_no_torch() -> None:
    """Importing torch costs such a worker seconds and 300 MB, so nothing that it imports may import torch."""
    reached, queue = set[str](), ["colorize.bulk.load", "colorize.bulk.write"]
    files = {module_name(path): path for path in MODULES}
    while queue:
        name = queue.pop()
        if name in reached or name not in files:
            continue
        reached.add(name)
        found = list(imports(files[name]))
        assert not [target for target in found if is_within(target, "torch")], f"{name} imports torch"
        queue += found
    assert len(reached) > 20


def test_no_job_hides_the_package() -> None:
    assert not (ROOT / "jobs" / "colorize.py").exists()
