"""The structure of the code: allowed imports between packages, where Ray may be used, and naming."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "colorize").rglob("*.py")) + sorted((ROOT / "jobs").glob("*.py"))

# The diagram of docs/architecture.md: what each package may import. Nothing else, and no cycle.
BASE = {"errors", "settings", "__init__"}
IMAGING = BASE | {"imaging"}
STORES = IMAGING | {"models", "storage", "metrics", "weights"}
SERVICES = STORES | {"datasets", "predict", "report", "cluster"}
JOBS = ("bulk", "train", "evaluate")
MAY_IMPORT = {
    "__init__": set[str](),  # the Python API imports `predict` on first use, by name
    "errors": set(),
    "settings": {"errors"},
    "metrics": BASE,
    "weights": set(),
    "imaging": BASE,
    "models": IMAGING | {"weights"},
    "storage": IMAGING,
    "datasets": IMAGING | {"storage"},
    "report": IMAGING | {"storage"},
    "cluster": BASE | {"storage"},
    "predict": IMAGING | {"models", "storage", "datasets", "weights"},
    **dict.fromkeys(JOBS, SERVICES),
    "cli": SERVICES | set(JOBS),
    "__main__": {"cli"},
    "jobs": {"cli"},
}
LOOSE = {"__init__", "__main__", "errors", "settings"}  # allowed at the package's top level
KNOW_RAY = ("jobs", "colorize.cli", "colorize.cluster", "colorize.bulk", "colorize.train.job", "colorize.train.worker",
            "colorize.evaluate")  # fmt: skip
KNOW_NO_RAY = ("colorize.bulk.ledger",)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def nodes(path: Path) -> list[ast.AST]:
    """The statements of a module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
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


def offenders(found: Callable[[Path], Iterable[str]]) -> dict[str, list[str]]:
    """Violations by module."""
    return {module_name(path): sorted(faults) for path in MODULES if (faults := set(found(path)))}


def test_packages_import_only_what_the_diagram_allows() -> None:
    def forbidden(path: Path) -> set[str]:
        own = package(module_name(path))
        return {package(target) for target in imports(path) if is_within(target, "colorize")} - {own} - MAY_IMPORT[own]

    assert offenders(forbidden) == {}


def test_the_diagram_has_no_cycle() -> None:
    done = set[str]()
    while len(done) < len(MAY_IMPORT):
        ready = {name for name, below in MAY_IMPORT.items() if name not in done and below - {name} <= done}
        assert ready, f"circle among {sorted(MAY_IMPORT.keys() - done)}"
        done |= ready


def test_only_entry_points_are_top_level_modules() -> None:
    assert {path.stem for path in (ROOT / "colorize").glob("*.py")} <= LOOSE


def of_ray(path: Path) -> list[str]:
    return [target for target in imports(path) if is_within(target, "ray")]


def test_ray_is_imported_only_where_allowed() -> None:
    def knows(name: str) -> bool:
        return any(is_within(name, room) for room in KNOW_RAY) and not any(is_within(name, r) for r in KNOW_NO_RAY)

    assert offenders(lambda path: [] if knows(module_name(path)) else of_ray(path)) == {}


def test_private_parts_of_ray_are_used_in_one_package() -> None:
    def private(path: Path) -> list[str]:
        return [target for target in of_ray(path) if any(part.startswith("_") for part in target.split("."))]

    assert {package(name) for name in offenders(private)} <= {"cluster"}


def test_decoding_and_writing_workers_need_no_torch() -> None:
    """Importing torch costs such a worker seconds and 300 MB, so none of its imports may import torch."""
    reached, queue = (
        set[str](),
        ["colorize.bulk.load", "colorize.bulk.write", "colorize.train.rows", "colorize.train.progress_actor"],
    )
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


def test_no_job_shadows_the_package() -> None:
    assert not (ROOT / "jobs" / "colorize.py").exists()


# What changes files on a disk, by the names that the standard library gives it. Encoders (`Image.save`, `write_table`)
# are handed open files: that they never get a path is for the reader to see.
CHANGES = {"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "makedirs", "removedirs", "touch", "symlink_to",
           "hardlink_to", "rename", "renames", "chmod", "rmtree", "copyfile", "copytree", "truncate", "FileHandler",
           "RotatingFileHandler", "pipe_file", "put_file", "rm_file"}  # fmt: skip
OF_OS = {"open", "remove", "replace", "link", "symlink", "mknod", "mkfifo"}  # names that other libraries use, too
MAY_CHANGE_FILES = {
    "colorize.storage.local_root": "the one place: relative to the root's descriptor, following no link",
    "colorize.storage.root": "objects of a bucket, which knows no links",
    "colorize.cluster.session": "the null device, which takes what Ray says at its start",
    "colorize.imaging.formats.jpeg_luma": "jpeglib reads files alone: one in a temporary folder of our own",
    "colorize.imaging.formats.encoded": "a temporary file of our own goes with the last who reads it",
}


def changes(path: Path) -> Iterator[str]:
    """The calls in a module that write, rename or remove files."""
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("os", "shutil")
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        writes = name in ("open", "fdopen") and any(isinstance(m, str) and set(m) & set("wax+") for m in modes)
        renames = name == "replace" and isinstance(node.func, ast.Attribute) and len(node.args) == 1
        if name in CHANGES or (of_os and name in OF_OS) or writes or (renames and not node.keywords):
            yield f"{name}, line {node.lineno}"


def test_files_are_written_and_removed_in_one_module() -> None:
    assert offenders(changes).keys() == MAY_CHANGE_FILES.keys()  # of which none keeps a leave that it does not need


@pytest.mark.parametrize(
    "call",
    ["Path(x).write_bytes(b'')", "p.open('wb')", "open(p, 'a')", "p.open(mode='x')", "os.open(p, os.O_WRONLY)",
     "p.unlink(missing_ok=True)", "shutil.rmtree(p)", "draft.replace(target)", "os.replace(a, b)", "p.mkdir()",
     "logging.FileHandler(p)", "os.remove(p)", "fs.rm_file(p)"],
)  # fmt: skip
def test_every_file_modification_is_detected(call: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(call)

    assert len(list(changes(tmp_path / "module.py"))) == 1


@pytest.mark.parametrize("call", ["p.open('rb')", "text.replace('a', 'b')", "replace(row, a=1)", "names.remove(x)"])
def test_calls_that_change_no_file_are_not_reported(call: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(call)

    assert not list(changes(tmp_path / "module.py"))


def test_output_is_printed_in_one_module() -> None:
    """Only `say` prints: it escapes file names and server responses."""
    ways = {"print", "typer.echo", "sys.stdout.write", "sys.stderr.write", "click.echo"}

    def printing(path: Path) -> set[str]:
        return ways & {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}

    assert offenders(printing).keys() <= {"colorize.errors"}
