"""Input lists and inventories instead of a listing: valid content, and bounded memory."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.datasets import input_list
from colorize.datasets.input_list import read_input_list
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.errors import UsageError
from colorize.storage import grouped
from colorize.storage.root import Storage
from tests.conftest import write_tree
from tests.datasets.reading import SETTINGS, fetch


def test_a_step_holds_few_images_of_unknown_size(tmp_path: Path) -> None:
    settings = SourceSettings(rows_per_task=64, fetch_threads=4)
    source = open_source(str(tmp_path), settings, str(_written(tmp_path / "l.txt", "\n".join(map(str, range(10))))))

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [4, 4, 2]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_inventory_replaces_the_listing(tmp_path: Path) -> None:
    write_tree(tmp_path / "in", {"a.jpg": b"a", "b c.jpg": b"b", "d.jpg": b"d"})
    lists = {
        "list.txt": f"b c.jpg\r\n{tmp_path}/in/d.jpg\n./b c.jpg\n\nfile://{tmp_path}/in/missing.jpg\n".encode(),
        "list.csv": b'path,size\n"b c.jpg",1\nd.jpg,1\nmissing.jpg,2\n',
    }
    write_tree(tmp_path, lists)
    pq.write_table(pa.table({"path": ["b c.jpg", "d.jpg", "missing.jpg"]}), tmp_path / "list.parquet")

    for name in (*lists, "list.parquet"):
        rows = fetch(open_source(str(tmp_path / "in"), SETTINGS, str(tmp_path / name)))
        assert [(raw.path, raw.data, raw.error) for raw in rows] == [
            ("b c.jpg", b"b", ""),
            ("d.jpg", b"d", ""),
            ("missing.jpg", b"", "unreadable"),
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", "../../etc/passwd", "not an image below"),
        ("l.txt", "s3://other/a.jpg", "not an image below"),
        ("l.txt", "_colorize/run.json", "not an image below"),
        ("l.parquet", "no parquet", "cannot read the input list"),
        ("l.csv", "file\na.jpg", "no column 'path' or 'key'"),
        ("absent.txt", None, "cannot read the input list"),
    ],
)
def test_a_bad_inventory_is_a_usage_error(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        list(read_input_list(str(tmp_path / name), Storage(tmp_path)))


def listed(folder: Path, name: str, content: bytes, root: str) -> list[str]:
    (folder / name).write_bytes(content)
    return list(read_input_list(str(folder / name), Storage(root)))


def test_only_a_full_name_loses_its_bucket(tmp_path: Path) -> None:
    names = b"s3://scans/scans/1931/a.jpg\nscans/1931/b.jpg\ns3://scans/1931/c.jpg\n1931/d.jpg"

    assert listed(tmp_path, "l.txt", names, "s3://scans") == [
        "scans/1931/a.jpg", "scans/1931/b.jpg", "1931/c.jpg", "1931/d.jpg",
    ]  # fmt: skip


def test_an_s3_inventory_is_accepted_as_delivered(tmp_path: Path) -> None:
    keys = ["1931/K\u00f6ln, 100%.jpg", "1931/a+b c.jpg"]
    rows = "".join(f'"archive","{quote_plus(key, safe="/")}","12"\n' for key in ["1931/", *keys])
    inventory = io.BytesIO()
    pq.write_table(pa.table({"bucket": ["archive"] * 3, "key": ["1931/", *keys]}), inventory)

    for name, content in {"i.csv.gz": gzip.compress(rows.encode()), "i.parquet": inventory.getvalue()}.items():
        assert listed(tmp_path, name, content, "s3://archive") == keys
        assert listed(tmp_path, name, content, "s3://archive/1931") == [key.removeprefix("1931/") for key in keys]
        with pytest.raises(UsageError, match="not an image below s3://archive/1932"):
            listed(tmp_path, name, content, "s3://archive/1932")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "piece", "reason"),
    [
        ("l.txt.gz", b"\n" * (1 << 20), "empty ones"),
        ("l.txt.gz", b" \r\n" * (1 << 18), "empty ones"),
        ("l.txt.gz", b"x" * (1 << 20), "65,536 characters"),
        ("l.csv.gz", b"," * (1 << 20), "65,536 characters"),
        ("l.csv.gz", b'"\n",' * (1 << 18), "1000 lines"),
        ("l.csv.gz", b",x\n" * (1 << 18), "names take more than"),
        ("l.csv.gz", b'""\n' * (1 << 18), "names take more than"),
    ],
)
def test_a_list_decompression_bomb_is_refused(tmp_path: Path, name: str, piece: bytes, reason: str) -> None:
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
        file.write(b"path\n")
        for _ in range(64):
            file.write(piece)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=reason):
            list(read_input_list(str(tmp_path / name), Storage(tmp_path)))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def list_as_parquet(names: list[str], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"path": names}), file, compression="zstd", **options)
    return file.getvalue()


PREFIXED: dict[str, Any] = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("l.parquet", list_as_parquet(["a" * 5000] * 100), "a name of 5,000 characters"),
        ("l.parquet", list_as_parquet(["a" * 4000] * 2000), "take more than"),
        ("l.parquet", list_as_parquet(["a" * 4000 + str(i) for i in range(2000)], **PREFIXED), "take more than"),
        ("l.txt.gz", gzip.compress(b"".join(b"%s%d\n" % (b"a" * 4000, i) for i in range(9000))), "take more than"),
        ("l.parquet.gz", gzip.compress(bytes(16 << 20)), "decompresses to more than"),
    ],
    ids=["one long name", "one name again and again", "names that begin alike", "lines that begin alike", "zeros"],
)
def test_a_list_of_huge_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(input_list, "FREE_BYTES", 1 << 20)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=reason):
        list(read_input_list(str(tmp_path / name), Storage(tmp_path)))


def test_an_endless_list_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(7 << 40)
    with pytest.raises(UsageError, match=r"list.txt has 7,696,581,394,432 bytes; at most"):
        list(read_input_list(str(tmp_path / "list.txt"), Storage(tmp_path)))


def test_a_long_list_of_numbered_names_is_not_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_list, "FREE_BYTES", 0)
    names = [f"archive/box {i // 100}/scan {i:06}.jpg" for i in range(20_000)]
    (tmp_path / "l.txt.gz").write_bytes(gzip.compress("\n".join(names).encode()))
    (tmp_path / "l.parquet").write_bytes(list_as_parquet(names))
    assert list(read_input_list(str(tmp_path / "l.txt.gz"), Storage(tmp_path))) == names
    assert list(read_input_list(str(tmp_path / "l.parquet"), Storage(tmp_path))) == names


@pytest.mark.slow
def test_a_list_is_read_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path\n" + "".join(f"box/scan {i:08}.jpg\n" for i in range(50_000)))
    names = read_input_list(str(tmp_path / "l.csv"), Storage(tmp_path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in names) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_listed_twice_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "GROUP_ROWS", 3)
    (tmp_path / "l.txt").write_text("".join(f"{i * i % 17}.jpg\n" for i in range(20)) + "a.parquet\na.parquet\n")
    names = list(open_source(str(tmp_path), SETTINGS, str(tmp_path / "l.txt")).names())

    assert names == [*dict.fromkeys(f"{i * i % 17}.jpg" for i in range(20)), "a.parquet"]
