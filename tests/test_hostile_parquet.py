"""Every reader of Parquet gets files with executable pickles: none executes, in any column."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.joining import assemble
from colorize.bulk.ledger.fresh import COLUMNS, PREVIOUS, replaced_outputs, reset_manifest
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import MANIFEST, MANIFEST_SCHEMA, Record, records_table
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.samples import read_cell
from colorize.bulk.sinks import FRAGMENT_SCHEMA, ImageResult, ParquetSink, fragments_of
from colorize.cli import EXIT_FAILURES, run
from colorize.datasets.input_list import read_input_list
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.errors import UsageError
from colorize.evaluate.ground_truth import ALL, GroundTruthLoader, load_truth
from colorize.imaging.settings import LimitSettings
from colorize.predict.restore_archive import restore_archive
from colorize.storage.root import Storage
from colorize.train.epoch_plan import COLUMNS as SAID
from colorize.train.epoch_plan import EpochPlan, plan_epoch
from colorize.train.reading import open_training_source, read_rows, split_reader
from colorize.train.settings import DataSettings, TrainSettings
from tests.conftest import grey_jpeg
from tests.hostile_parquet import placements
from tests.test_structure import MODULES, module_name

SETTINGS = SourceSettings()
FAULTS = (UsageError, pa.ArrowException)  # a malicious file may be refused
OWN = fragments_of("a.parquet", "", "", "")


def archives(folder: Path, bad: pa.Array) -> Iterator[Path]:
    """Archives of two rows with the malicious column in place of each requested one, or beside them."""
    good = {"image": [grey_jpeg(1), grey_jpeg(2)]} | {name: ["train", "train"] for name in SAID}
    for name in (*good, "carried"):
        path = folder / f"archive-{name}/a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(good | {name: bad}), path)
        yield path


def plan_and_fetch(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        with suppress(*FAULTS):
            source = open_source(str(path), SETTINGS).with_columns(*SAID, "carried")
            rows = [raw for raws in source.reader.fetch(source.units) for raw in raws]
            assert len(rows) == 2
            assert not any("carried" in raw.columns for raw in rows)


def evaluate(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        with suppress(*FAULTS):
            source = open_source(str(path), SETTINGS).with_columns(*SAID)
            loader = GroundTruthLoader(source.reader, ALL, False, 32, 32 * 32, LimitSettings(), whole=True)
            assert sum(table.num_rows for table in load_truth(source.units, loader)) == 2


def read_training(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        with suppress(*FAULTS):
            source = open_training_source(str(path), DataSettings())
            reader = split_reader(source, "train", TrainSettings(), EpochPlan(2))
            assert list(read_rows(source.blocks(), reader, threads=1))


def plan_training(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        with suppress(*FAULTS):
            assert plan_epoch(open_source(str(path), SETTINGS), DataSettings()).images


def show(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        for column in ("image", "carried"):
            with suppress(*FAULTS):
                read_cell(Storage(path.parent), "a.parquet", column, 1)


def write_and_assemble(folder: Path, bad: pa.Array) -> None:
    for path in archives(folder, bad):
        target = Storage(path.parent / "out")
        rows = [ImageResult(Record(f"a.parquet#{i}"), b"colored", "a.parquet", i) for i in range(2)]
        ParquetSink(target).write(rows)
        assert assemble(Storage(path.parent), target, "a.parquet", OWN) == Lost()
    good = pa.table({"row": [0, 1], "colorized": [b"1", b"2"], "status": ["ok"] * 2, "error": [""] * 2})
    for index, name in enumerate(FRAGMENT_SCHEMA.names):  # as an untrusted output may contain
        (fragment,) = target.entries(OWN)
        pq.write_table(good.set_column(index, name, bad), target.path(fragment.name))
        with suppress(*FAULTS):
            assemble(Storage(path.parent), target, "a.parquet", OWN)


def restore(folder: Path, bad: pa.Array) -> None:
    good = {"image": [b"1", b"2"], "colorized": [grey_jpeg(1), grey_jpeg(2)], "status": ["ok"] * 2, "error": [""] * 2}
    for name in (*good, "carried"):
        source, target = Storage(folder / name), Storage(folder / name / "out")
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(good | {name: bad}), source.path("a.parquet"))
        with suppress(*FAULTS):
            *_, last = restore_archive(source, "a.parquet", target, "a.parquet", bytes, 1 << 20)
            assert last.ok


def list_inputs(folder: Path, bad: pa.Array) -> None:
    folder.mkdir()
    for number, columns in enumerate(({"path": bad}, {"key": bad}, {"path": ["a.jpg", "b.jpg"], "more": bad})):
        path = folder / f"{number}.parquet"
        pq.write_table(pa.table(columns), path)
        with suppress(*FAULTS):
            assert list(read_input_list(str(path), Storage(folder))) == ["a.jpg", "b.jpg"]


def manifests(folder: Path, bad: pa.Array) -> Iterator[Storage]:
    """Outputs with a malicious column in the manifest, or one unknown to it."""
    good = records_table([Record("a.jpg"), Record("b.jpg")])
    for index, name in enumerate((*MANIFEST_SCHEMA.names, "more")):
        table = good.set_column(index, name, bad) if name in good.column_names else good.append_column(name, bad)
        storage = Storage(folder / name)
        part = Path(storage.path(f"{MANIFEST}/part-000001-{'0' * 24}.parquet"))
        part.parent.mkdir(parents=True)
        pq.write_table(table, part)
        yield storage


def read_manifests(folder: Path, bad: pa.Array) -> None:
    for storage in manifests(folder, bad):
        with suppress(*FAULTS):
            read_manifest(storage).to_pylist()


def start_anew(folder: Path, bad: pa.Array) -> None:
    for storage in manifests(folder, bad):
        for name in COLUMNS:
            columns = {each: ["a", "b"] for each in COLUMNS} | {name: bad}
            pq.write_table(pa.table(columns), storage.path(PREVIOUS))
            for step in (replaced_outputs, reset_manifest):
                with suppress(*FAULTS):
                    step(storage)


READERS: dict[str, tuple[Callable[[Path, pa.Array], None], ...]] = {
    "colorize.bulk.ledger.fresh": (start_anew,),
    "colorize.bulk.ledger.manifest": (read_manifests,),
    "colorize.bulk.samples": (show,),
    "colorize.bulk.joining": (write_and_assemble,),
    "colorize.datasets.input_list": (list_inputs,),
    "colorize.datasets.readers": (plan_and_fetch, evaluate, read_training),
    "colorize.datasets.archives": (plan_and_fetch,),
    "colorize.predict.restore_archive": (restore,),
    "colorize.train.epoch_plan": (plan_training,),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", placements(Path(), 1))
@pytest.mark.parametrize("reader", sorted({each for of_one in READERS.values() for each in of_one}, key=str))
def test_no_reader_executes_file_content(tmp_path: Path, reader: Callable[[Path, pa.Array], None], place: str) -> None:
    marker = tmp_path / "marker"
    reader(tmp_path / "files", placements(marker, 2)[place])
    assert not marker.exists()


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_job_and_its_report_execute_no_file_content(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    bad = placements(marker, 3)
    images = pa.array([grey_jpeg(1), b"broken", grey_jpeg(2)])
    table = pa.table(
        {"image": pa.StructArray.from_arrays([images, bad["plain"]], ["bytes", "path"]), "path": bad["plain"]}
    )
    for name, column in bad.items():
        table = table.append_column(f"carried {name}", column)
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/a.parquet")
    command = ["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert run([*command, "--set", "triage.color=color"]) == EXIT_FAILURES

    after = pq.read_table(tmp_path / "out/a.parquet")
    assert after["status"].to_pylist() == ["ok", "failed", "ok"]
    assert after.select(table.column_names).equals(table)
    assert run(["report", str(tmp_path / "out")]) == 0
    assert not marker.exists()


# --- where Parquet and Arrow files may be read ---

DOOR, FOOTER = "colorize.storage.parquet", "colorize.storage.parquet_footer"  # where it is sanitized
FORMATS = ("parquet", "dataset", "ipc", "feather", "orc")  # of pyarrow, whose files may name a type
WRITING = {"write_table", "ParquetWriter", "FileMetaData", "ColumnChunkMetaData", "ColumnSchema"}
OWN_FILES = {"colorize.storage.spooled": ["pa.ipc.open_file"]}  # temporary, and written by the same process
OTHER_READERS = (
    "read_parquet",
    "read_parquet_bulk",
    "read_feather",
    "read_ipc",
    "read_pickle",
    "open_stream",
    "open_file",
)


def reads(path: Path) -> Iterator[str]:
    """A module's uses of pyarrow's file formats other than writing, and other libraries' readers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {"pa": "pyarrow"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyarrow"):
            module, names = node.module or "", [alias.name for alias in node.names]
            yield from (f"{module}.{name}" for name in names if module != "pyarrow" and name not in WRITING)
            yield from (f"{module}.{name}" for name in names if module == "pyarrow" and name in FORMATS)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = aliases.get(ast.unparse(node.value), ast.unparse(node.value))
        of_format = owner.startswith("pyarrow.") and owner.split(".")[1] in FORMATS
        if (of_format and node.attr not in WRITING) or node.attr in OTHER_READERS:
            yield f"{owner}.{node.attr}"


def test_parquet_is_read_through_one_module() -> None:
    found = {module_name(path): list(reads(path)) for path in MODULES if module_name(path) not in (DOOR, FOOTER)}

    assert {name: ways for name, ways in found.items() if ways} == OWN_FILES


def test_other_parquet_readers_are_detected(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    for code in (
        "import pyarrow.parquet as pq\npq.read_table('a')",
        "import pyarrow.parquet\npyarrow.parquet.ParquetFile('a')",
        "from pyarrow import parquet",
        "from pyarrow.parquet import read_table",
        "import pyarrow.dataset as pads\npads.dataset('a')",
        "import pyarrow as pa\npa.ipc.open_stream(b'')",
        "import ray\nray.data.read_parquet('a')",
    ):
        module.write_text(code)
        assert list(reads(module)), code
    module.write_text("import pyarrow.parquet as pq\npq.write_table(1, 'a')")
    assert not list(reads(module))


def test_every_module_that_reads_parquet_is_tested() -> None:
    users = set()
    for path in MODULES:
        called = {
            ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        if called & {"Archive", "read_table", "table_batches"} and module_name(path) != DOOR:
            users.add(module_name(path))
    assert users == set(READERS), "add the reader to READERS, with hostile files for all that it reads"
