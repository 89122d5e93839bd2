"""Archives as written by table formats, dataset hubs and desktops, in one job on a real Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import run
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg, write_tree

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

KINDS = {
    "view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.binary()),
    "year=1911/part-0": pa.large_binary(),
}


def test_archives_of_any_binary_type_are_colored_and_other_files_ignored(tmp_path: Path) -> None:
    source, target, scan = tmp_path / "in", tmp_path / "out", grey_jpeg(1)
    for name, kind in KINDS.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": pa.array([scan, scan], kind), "number": [1, 2]}), source / f"{name}.parquet")
    (source / "_delta_log").mkdir()
    pq.write_table(pa.table({"add": ["part-0"]}), source / "_delta_log/10.checkpoint.parquet")
    pq.write_table(pa.table({"caption": ["a", "b"]}), source / "captions.parquet")
    write_tree(source, {"year=1911/._part-0.parquet": b"\0\5\x16\7", "year=1911/.part-0.parquet.crc": b"crc"})

    options = ("--set", "colorizer.size=64", "--tolerate-failures", "0.5")
    assert run(["bulk", "--input", str(source), "--output", str(target), *options]) == 0

    rows = {row["path"]: (row["status"], row["error"]) for row in read_manifest(Storage(str(target))).to_pylist()}
    assert rows == {f"{name}.parquet#{number}": ("ok", "") for name in KINDS for number in (0, 1)} | {
        "_delta_log/10.checkpoint.parquet": ("skipped", "excluded"),
        "year=1911/._part-0.parquet": ("skipped", "excluded"),
        "year=1911/.part-0.parquet.crc": ("skipped", "excluded"),
        "captions.parquet": ("failed", "no_image_column"),
    }
    for name in KINDS:
        copy = pq.read_table(target / f"{name}.parquet")
        assert copy["number"].to_pylist() == [1, 2]
        assert copy["status"].to_pylist() == ["ok", "ok"]
        assert all(colored[:2] == b"\xff\xd8" for colored in copy["colorized"].to_pylist())
