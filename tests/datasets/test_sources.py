"""Sources: what is planned, what a worker fetches of it, and which faults are rows and which are usage errors."""

from __future__ import annotations

import errno
import gzip
import io
import os
import pickle
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError

from colorize.datasets import input_list, readers
from colorize.datasets.archives import MIN_SLICE_ROWS
from colorize.datasets.input_list import read_input_list
from colorize.datasets.readers import ArchiveReader, Raw
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source, _plan, open_source
from colorize.errors import UsageError
from colorize.imaging.settings import SizeLimits
from colorize.storage import grouped, parquet_pages
from colorize.storage.listing import Entry
from colorize.storage.root import Storage
from tests.conftest import write_tree

SETTINGS = SourceSettings(rows_per_task=4)


def fetch(source: Source) -> list[Raw]:
    reader = pickle.loads(pickle.dumps(source.reader))  # as a worker gets it
    return [raw for block in source.blocks() for raws in reader.fetch(block) for raw in raws]


def archive(path: Path, images: list[bytes | None], *, struct: bool = False, row_group: int = 100) -> None:
    column: list[object] = [{"bytes": image, "path": "x.jpg"} for image in images] if struct else list(images)
    table = pa.table({"id": list(range(len(images))), "image": column})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group, use_dictionary=False)


def test_a_folder_is_read_with_every_file_in_it(tmp_path: Path) -> None:
    files = {f"box {i}/scan {j}.jpg": f"{i}{j}".encode() for i in range(3) for j in range(3)} | {"notes.txt": b"n"}
    write_tree(tmp_path, files)
    source = open_source(str(tmp_path), SETTINGS)

    assert source.total == 10
    assert {raw.path: raw.data for raw in fetch(source)} == files
    assert all(raw.identity and raw.size == len(raw.data) for raw in fetch(source))


def test_what_an_earlier_run_left_is_no_input(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a", "_colorize/manifest/part-0.parquet": b"p", "_colorize/run.json": b"{}"})

    assert [raw.path for raw in fetch(open_source(str(tmp_path), SETTINGS))] == ["a.jpg"]


def test_a_single_image_is_an_input(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a", "b.jpg": b"b"})
    source = open_source(str(tmp_path / "b.jpg"), SETTINGS)

    assert [(raw.path, raw.data) for raw in fetch(source)] == [("b.jpg", b"b")]


def test_a_file_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a"})
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    gone = {raw.path: raw for raw in fetch(open_source(str(tmp_path), SETTINGS))}["gone.jpg"]

    assert gone.error == "unreadable"
    assert "No such file" in gone.message


def test_a_name_that_is_not_utf_8_is_a_row(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.jpg")).write_bytes(b"m")
    rows = {raw.path: raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert rows == {"a.jpg": "", "M\\xfcller.jpg": "bad_name"}


def test_a_step_holds_few_large_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FETCH_BYTES", 100)
    write_tree(tmp_path, {f"{i}.jpg": bytes(60) for i in range(3)})
    source = open_source(str(tmp_path), SETTINGS)

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [1, 1, 1]


def test_a_step_holds_few_images_of_unknown_size(tmp_path: Path) -> None:
    settings = SourceSettings(rows_per_task=64, fetch_threads=4)
    source = open_source(str(tmp_path), settings, str(_written(tmp_path / "l.txt", "\n".join(map(str, range(10))))))

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [4, 4, 2]


def test_a_step_holds_few_large_rows_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FETCH_BYTES", 2500)
    archive(tmp_path / "a.parquet", [random.Random(i).randbytes(1000) for i in range(21)])
    source = open_source(str(tmp_path), SETTINGS)

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [2] * 10 + [1]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "1931/@eaDir/b.jpg", ".thumbnails/c.png", ".Trash-1000/files/d.jpg",
        "#recycle/e.jpg", "@Recycle/f.jpg", "$RECYCLE.BIN/g.jpg", ".@__thumb/h.jpg", "__MACOSX/a/._i.jpg", "Thumbs.db",
        ".nomedia", ".picasa.ini", "Picasa.ini", ".DS_Store", "desktop.ini", "._j.jpg", "._k.parquet", "l.jpg.xmp",
        "m.thm",
        ".colorize-1234", "lost+found/n.jpg", ".part-0.parquet.crc", "o.jpg@SynoEAStream",
    ],
)  # fmt: skip
def test_what_systems_leave_among_images_is_excluded(tmp_path: Path, name: str) -> None:
    kept = {"scan.jpg": b"s", ".scan.jpg": b"an image all the same", "#12/@home/a.jpg": b"s", "notes.txt": b"n"}
    write_tree(tmp_path, {**kept, name: b"l"})
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert {path for path, raw in rows.items() if not raw.error} == set(kept)
    assert (rows[name].skipped, rows[name].error, bool(rows[name].message)) == (True, "excluded", True)


def test_a_user_says_what_is_left_out(tmp_path: Path) -> None:
    write_tree(tmp_path, dict.fromkeys(("a/1.jpg", "a/1_thumb.jpg", "a/2.tif", "b/3.jpg"), b"p"))
    settings = SourceSettings(include=("a/*",), exclude=("*_thumb.jpg", "*.tif"))
    rows = {raw.path: raw.message for raw in fetch(open_source(str(tmp_path), settings))}

    assert rows == {
        "a/1.jpg": "",
        "a/1_thumb.jpg": "matches source.exclude (*_thumb.jpg, *.tif)",
        "a/2.tif": "matches source.exclude (*_thumb.jpg, *.tif)",
        "b/3.jpg": "matches none of source.include (a/*)",
    }


def test_a_link_to_a_folder_is_not_followed_and_no_failure(tmp_path: Path) -> None:
    write_tree(tmp_path, {"in/a.jpg": b"a", "elsewhere/b.jpg": b"b"})
    (tmp_path / "in/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    (tmp_path / "in/c.jpg").symlink_to("a.jpg")
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path / "in"), SETTINGS))}

    assert {path: (raw.data, raw.error) for path, raw in rows.items()} == {
        "a.jpg": (b"a", ""),
        "c.jpg": (b"a", ""),
        "more": (b"", "excluded"),
        "circle": (b"", "excluded"),
    }
    assert "a link to a folder" in rows["more"].message


def test_side_files_of_a_table_are_no_archives(tmp_path: Path) -> None:
    archive(tmp_path / "part-0.parquet", [b"1"])
    for name in ("_delta_log/10.checkpoint.parquet", "._part-0.parquet", ".hidden/x.parquet", "_metadata.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not even Parquet")
    write_tree(tmp_path, {"_delta_log/10.json": b"{}", ".part-0.parquet.crc": b"c", "README.md": b"r", "_SUCCESS": b""})
    source = open_source(str(tmp_path), SETTINGS)
    rows = {raw.path: raw.error for raw in fetch(source)}

    assert source.parts == {"part-0.parquet": 1}
    assert rows.pop("part-0.parquet#0") == ""
    assert set(rows.values()) == {"excluded"}
    assert all(".parquet" in name for name in rows)


def test_an_archive_without_the_column_is_one_failed_row(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1"])
    pq.write_table(pa.table({"caption": ["x", "y"]}), tmp_path / "captions.parquet")
    pq.write_table(pa.table({"image": [b"1"], "status": ["draft"]}), tmp_path / "drafts.parquet")
    rows = {raw.path: raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert rows == {"a.parquet#0": "", "captions.parquet": "no_image_column", "drafts.parquet": "column_taken"}


def test_archives_are_chosen_by_name(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "test-0"):
        archive(tmp_path / f"{name}.parquet", [b"1"])
    source = open_source(str(tmp_path), SourceSettings(include=("train-*",), exclude=("*-1.parquet",)))

    assert source.parts == {"train-0.parquet": 1}
    assert {raw.path: raw.error for raw in fetch(source)} == {
        "train-0.parquet#0": "", "train-1.parquet": "excluded", "test-0.parquet": "excluded",
    }  # fmt: skip


def test_an_archive_with_a_column_that_the_output_adds_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "status": ["draft"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column 'status', which the output adds"):
        open_source(str(tmp_path), SETTINGS)


def test_a_name_that_another_input_has_once_its_suffix_is_added_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped, "GROUP_ROWS", 2)
    write_tree(tmp_path, dict.fromkeys(("a.gif", "b/scan", "b/scan.png", "c.png", "c.png.png", "z.gif.png"), b"p"))
    rows = {raw.path: raw.name_taken for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert {path for path, taken in rows.items() if taken} == {"b/scan", "c.png"}


def test_files_of_no_interest_are_skipped_and_not_lost(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a/1.jpg": b"1", "a/1.xmp": b"x", "Thumbs.db": b"t", "a/._1.jpg": b"m"})
    settings = SourceSettings(include=("*.jpg",))
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path), settings))}

    assert {path: (row.skipped, row.error) for path, row in rows.items()} == {
        "a/1.jpg": (False, ""),
        "a/1.xmp": (True, "excluded"),
        "Thumbs.db": (True, "excluded"),
        "a/._1.jpg": (True, "excluded"),
    }


def test_tables_beside_images_change_nothing_for_these(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1]}), tmp_path / "table.parquet")
    write_tree(tmp_path, {"a.jpg": b"a", "scan": b"s", "notes.txt": b"n"})
    source = open_source(str(tmp_path), SETTINGS)

    assert source.parts is None
    assert {raw.path: raw.error for raw in fetch(source)} == {
        "a.jpg": "", "scan": "", "notes.txt": "", "table.parquet": "no_image_column",
    }  # fmt: skip


@pytest.mark.parametrize("struct", [False, True])
def test_an_archive_is_read_row_by_row(tmp_path: Path, struct: bool) -> None:
    images: list[bytes | None] = [f"image {i}".encode() for i in range(11)]
    images[7] = None
    archive(tmp_path / "x" / "p.parquet", images, struct=struct, row_group=5)
    source = open_source(str(tmp_path), SETTINGS)
    rows = fetch(source)

    assert source.total == 11
    assert source.parts == {"x/p.parquet": 11}
    assert [(raw.part, raw.row, raw.path) for raw in rows] == [
        ("x/p.parquet", i, f"x/p.parquet#{i}") for i in range(11)
    ]
    assert [raw.data or None for raw in rows] == images
    assert rows[7].error == "empty"


def test_large_row_groups_are_shared_between_tasks(tmp_path: Path) -> None:
    images: list[bytes | None] = [str(i).encode() for i in range(3 * MIN_SLICE_ROWS + 7)]
    archive(tmp_path / "p.parquet", images, row_group=len(images))
    source = open_source(str(tmp_path / "p.parquet"), SETTINGS)

    assert len(source.blocks()) == 4
    assert [raw.data for raw in fetch(source)] == images


def test_an_archive_without_a_footer_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1", b"2"])
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    source = open_source(str(tmp_path), SETTINGS)
    rows = {raw.path: raw.error for raw in fetch(source)}

    assert source.total == 3
    assert rows == {"a.parquet#0": "", "a.parquet#1": "", "b.parquet": "corrupt_parquet"}


class Flaky(Storage):
    """A storage that fails whoever opens `b.parquet`."""

    fault: Exception

    def open(self, name: str) -> IO[bytes]:
        if name == "b.parquet":
            raise self.fault
        return super().open(name)


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.EIO, "i/o error"), PermissionError("denied"), EndpointConnectionError(endpoint_url="http://s3")],
    ids=lambda fault: type(fault).__name__,
)
def test_an_archive_that_cannot_be_reached_is_no_damaged_one(tmp_path: Path, fault: Exception) -> None:
    """A row that calls it damaged would replace those of earlier runs."""
    for name in ("a", "b"):
        archive(tmp_path / f"{name}.parquet", [b"1"])
    storage = Flaky(tmp_path)
    storage.fault = fault
    with pytest.raises(UsageError, match=r"cannot read .*/b.parquet: .*; run again once it can be"):
        _plan(storage, None, SETTINGS, SizeLimits())


def test_an_archive_whose_column_names_are_damaged_is_a_row(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1", b"2"])
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data.replace(b"image", b"im\xffge"))

    assert [raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))] == ["corrupt_parquet"]


def test_an_archive_damaged_inside_fails_the_rows_that_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    archive(path, [random.Random(i).randbytes(5000) for i in range(40)], row_group=20)
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    rows = fetch(open_source(str(path), SETTINGS))

    assert [raw.row for raw in rows] == list(range(40))
    assert {raw.error for raw in rows[:20]} == {""}
    assert {raw.error for raw in rows[20:]} == {"corrupt_parquet"}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("photograph", r"no column 'photograph'.*image_column"),
        ("imagee", r"did you mean 'image'"),
        ("id", r"column 'id' .* holds int64, not encoded bytes"),
    ],
)
def test_a_wrong_image_column_is_a_usage_error(tmp_path: Path, column: str, message: str) -> None:
    archive(tmp_path / "a.parquet", [b"1"])
    with pytest.raises(UsageError, match=message):
        open_source(str(tmp_path), SourceSettings(image_column=column))


@pytest.mark.parametrize(
    "suffix", ["pgm", "PBM", "ppm", "avif", "psd", "tga", "pcx", "qoi", "sgi", "jfif", "jpe", "mpo"]
)
def test_a_stray_archive_hides_no_scans(tmp_path: Path, suffix: str) -> None:
    archive(tmp_path / "index.parquet", [b"1", b"2"])
    pq.write_table(pa.table({"number": [1]}), tmp_path / "table.parquet")
    write_tree(tmp_path, {f"scan.{suffix}": b"s", "no suffix": b"n", "README.md": b"r"})
    source = open_source(str(tmp_path), SETTINGS)

    assert source.parts == {"index.parquet": 2}
    assert {raw.path: raw.error for raw in fetch(source)} == {
        f"scan.{suffix}": "",
        "no suffix": "",
        "README.md": "excluded",
        "table.parquet": "no_image_column",
        "index.parquet#0": "",
        "index.parquet#1": "",
    }


def test_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no files"):
        open_source(str(tmp_path), SETTINGS)


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
        ("l.txt", "../../etc/passwd", "no image below"),
        ("l.txt", "s3://other/a.jpg", "no image below"),
        ("l.txt", "_colorize/run.json", "no image below"),
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


def test_an_inventory_of_s3_is_a_list_as_it_was_delivered(tmp_path: Path) -> None:
    keys = ["1931/K\u00f6ln, 100%.jpg", "1931/a+b c.jpg"]
    rows = "".join(f'"archive","{quote_plus(key, safe="/")}","12"\n' for key in ["1931/", *keys])
    inventory = io.BytesIO()
    pq.write_table(pa.table({"bucket": ["archive"] * 3, "key": ["1931/", *keys]}), inventory)

    for name, content in {"i.csv.gz": gzip.compress(rows.encode()), "i.parquet": inventory.getvalue()}.items():
        assert listed(tmp_path, name, content, "s3://archive") == keys
        assert listed(tmp_path, name, content, "s3://archive/1931") == [key.removeprefix("1931/") for key in keys]
        with pytest.raises(UsageError, match="no image below s3://archive/1932"):
            listed(tmp_path, name, content, "s3://archive/1932")


def test_a_key_that_leads_out_of_its_bucket_is_a_row(tmp_path: Path) -> None:
    class Bucket(Storage):
        """Lists a name that no disk could hold."""

        def pages(self, below: str = "") -> Iterator[list[Entry]]:
            yield [Entry("a/../../b.jpg", 3, "tag")]

    source = _plan(Bucket(tmp_path), None, SETTINGS, SizeLimits())

    assert [(raw.path, raw.error) for raw in fetch(source)] == [("a/../../b.jpg", "bad_name")]


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
def test_a_small_list_that_unfolds_to_hundreds_of_megabytes_is_refused(
    tmp_path: Path, name: str, piece: bytes, reason: str
) -> None:
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
        ("l.parquet.gz", gzip.compress(bytes(16 << 20)), "unpacks to more than"),
    ],
    ids=["one long name", "one name again and again", "names that begin alike", "lines that begin alike", "zeros"],
)
def test_a_small_list_of_names_that_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(input_list, "FREE_BYTES", 1 << 20)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=reason):
        list(read_input_list(str(tmp_path / name), Storage(tmp_path)))


def test_a_list_without_end_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(7 << 40)
    with pytest.raises(UsageError, match=r"list.txt has 7,696,581,394,432 bytes; at most"):
        list(read_input_list(str(tmp_path / "list.txt"), Storage(tmp_path)))


def test_a_long_list_of_numbered_names_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_list, "FREE_BYTES", 0)
    names = [f"archive/box {i // 100}/scan {i:06}.jpg" for i in range(20_000)]
    (tmp_path / "l.txt.gz").write_bytes(gzip.compress("\n".join(names).encode()))
    (tmp_path / "l.parquet").write_bytes(list_as_parquet(names))
    assert list(read_input_list(str(tmp_path / "l.txt.gz"), Storage(tmp_path))) == names
    assert list(read_input_list(str(tmp_path / "l.parquet"), Storage(tmp_path))) == names


def test_a_list_is_read_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path\n" + "".join(f"box/scan {i:08}.jpg\n" for i in range(50_000)))
    names = read_input_list(str(tmp_path / "l.csv"), Storage(tmp_path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in names) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_a_list_names_twice_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "GROUP_ROWS", 3)
    (tmp_path / "l.txt").write_text("".join(f"{i * i % 17}.jpg\n" for i in range(20)) + "a.parquet\na.parquet\n")
    names = list(open_source(str(tmp_path), SETTINGS, str(tmp_path / "l.txt")).names())

    assert names == [*dict.fromkeys(f"{i * i % 17}.jpg" for i in range(20)), "a.parquet"]


def test_a_bomb_in_an_archive_is_a_row_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 10 << 20)
    bomb = pa.table({"image": [bytes(20 << 20)]})
    pq.write_table(bomb, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    archive(tmp_path / "good.parquet", [b"1", b"2"])
    rows = fetch(open_source(str(tmp_path), SETTINGS))

    assert [(raw.path, raw.error) for raw in rows] == [
        ("bomb.parquet#0", "too_large"),
        ("good.parquet#0", ""),
        ("good.parquet#1", ""),
    ]
    assert "packed in" in rows[0].message


def test_an_image_above_the_limit_is_refused_alone(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1" * 10, b"2" * 11, None, b"3"])
    source = open_source(str(tmp_path), SETTINGS)
    assert isinstance(source.reader, ArchiveReader)
    rows = [raw for raws in replace(source.reader, max_bytes=10).fetch(source.units) for raw in raws]

    assert [raw.error for raw in rows] == ["", "too_large", "empty", ""]
    assert rows[1].message == "the row's image has 11 bytes; at most 10 are read"


def test_a_row_with_a_path_and_no_bytes_says_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "scans/1.jpg"}]}), tmp_path / "a.parquet")
    (row,) = fetch(open_source(str(tmp_path), SETTINGS))
    assert row.error == "empty"
    assert "holds a path ('scans/1.jpg') and no bytes" in row.message
