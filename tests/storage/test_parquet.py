"""Safe Parquet reading: file content never executes, and only declared columns become Python objects."""

from __future__ import annotations

import base64
import datetime
import decimal
import gc
import io
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk import joining
from colorize.bulk.joining import assemble
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import Record
from colorize.bulk.sinks import ImageResult, ParquetSink, fragments_of
from colorize.storage import parquet as door
from colorize.storage import parquet_footer
from colorize.storage.parquet import Archive, read_table
from colorize.storage.parquet_cells import TEXT_BYTES, ImageColumn, plain_columns, plain_rows, read_texts
from colorize.storage.parquet_error import ParquetError
from colorize.storage.root import Storage
from colorize.storage.thrift import CompactReader
from tests.hostile_parquet import Touch, pickles, placements

PLACES = list(placements(Path(), 1))


def parquet(table: pa.Table, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file


def read_all(archive: Archive, *columns: str) -> pa.Table:
    batches = [batch for _, batch in archive.all_batches(columns or archive.schema.names, 1 << 20)]
    return pa.Table.from_batches(batches)


def test_the_malicious_files_act_when_read_without_protection(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pq.read_table(parquet(pa.table({"bad": pickles(marker, 1)}))).to_pylist()
    assert marker.exists()


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_extension_types_are_read_as_their_storage_at_any_depth(tmp_path: Path, place: str, canonical: bool) -> None:
    marker = tmp_path / "marker"
    archive = Archive(parquet(pa.table({"bad": placements(marker, 2)[place]})), canonical)
    rows = read_all(archive).to_pylist()

    assert "touch" in repr(rows)  # the pickle, as bytes
    assert not marker.exists()


def test_a_dictionary_extension_type_is_read_as_a_dictionary(tmp_path: Path) -> None:
    name = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    field = pa.field("bad", pa.dictionary(pa.int32(), pa.binary()), metadata=name)
    table = pa.Table.from_arrays([pa.array([b"1", b"1"]).dictionary_encode()], schema=pa.schema([field]))
    archive = Archive(parquet(table))

    assert archive.schema.field("bad").type == field.type
    assert read_all(archive).to_pylist() == [{"bad": b"1"}] * 2


def test_a_file_is_freed_without_the_garbage_collector() -> None:
    """Which comes late: it does not count the bytes of a footer or of page headers."""

    def alive() -> int:
        return sum(isinstance(each, pq.FileMetaData | CompactReader) for each in gc.get_objects())

    file = parquet(pa.table({"text": ["a", "b"]}))
    gc.collect()
    before = alive()
    gc.disable()
    try:
        read_table(file, pa.schema([("text", pa.string())]))
        Archive(file, canonical=True)
        assert alive() == before
    finally:
        gc.enable()


class Own(pa.ExtensionType):  # type: ignore[misc]
    """A type that records when it is instantiated."""

    built: ClassVar[list[bytes]] = []

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.own")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, parameters: bytes) -> Own:
        cls.built.append(parameters)
        return cls()


@pytest.fixture
def built() -> Iterator[list[bytes]]:
    """The parameters of each `Own` that a file has instantiated."""
    Own.built.clear()
    pa.register_extension_type(Own())
    yield Own.built
    pa.unregister_extension_type("tests.own")


def test_no_registered_type_is_instantiated(built: list[bytes]) -> None:
    """Ray's tensor types may load a pickle from their parameters when the schema is read."""
    file = parquet(pa.table({"own": pa.ExtensionArray.from_storage(Own(), pa.array([1]))}))
    pq.read_schema(file)
    assert built
    built.clear()
    assert read_all(Archive(file)).to_pylist() == [{"own": 1}]
    assert not built


def with_schema(file: io.BytesIO, value: bytes, extra: bytes = b"") -> io.BytesIO:
    """A file with its Arrow schema replaced by one of equal length."""
    data = file.getvalue()
    old = pq.read_metadata(io.BytesIO(data)).metadata[b"ARROW:schema"]
    assert len(old) == len(value)
    return io.BytesIO(data.replace(old, value))


def test_an_unreadable_arrow_schema_is_ignored(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    file = parquet(pa.table({"bad": pickles(marker, 1)}))
    value = pq.read_metadata(file).metadata[b"ARROW:schema"]
    broken = with_schema(file, b"!" + value[1:])

    assert "touch" in repr(read_all(Archive(broken)).to_pylist())
    assert not marker.exists()


def test_a_second_arrow_schema_is_ignored(tmp_path: Path) -> None:
    """It is undefined which of the two counts, so neither does."""
    marker = tmp_path / "marker"
    table = pa.table({"bad": pickles(marker, 1)})
    value = pq.read_metadata(parquet(table)).metadata[b"ARROW:schema"]
    harmless = base64.b64encode(bytes(len(base64.b64decode(value))))
    for twice in ({b"ARROW:schema": harmless}, {b"ARROW:schema": value}):
        file = parquet(table.replace_schema_metadata(twice))
        assert file.getvalue().count(b"ARROW:schema") == 2
        assert "touch" in repr(read_all(Archive(file)).to_pylist())
    assert not marker.exists()


@pytest.mark.parametrize("is_last", [False, True])
def test_a_schema_under_the_masked_name_masks_no_other(is_last: bool, built: list[bytes]) -> None:
    """A decoy that would be sanitized instead of the schema that Arrow reads."""
    table = pa.table({"own": pa.ExtensionArray.from_storage(Own(), pa.array([1]))})
    decoy = base64.b64encode(pa.schema([("own", pa.int64())]).serialize().to_pybytes())
    evil = pq.read_metadata(parquet(table)).metadata[b"ARROW:schema"]
    first, table = (evil, table.cast(pa.schema([("own", pa.int64())]))) if is_last else (decoy, table)
    data = parquet(table.replace_schema_metadata({b"ARROW-schema": first})).getvalue()
    if is_last:  # the names are swapped
        data = data.replace(b"ARROW-schema", b"ARROW.schema").replace(b"ARROW:schema", b"ARROW-schema")
        data = data.replace(b"ARROW.schema", b"ARROW:schema")
    pq.read_schema(io.BytesIO(data))
    assert built
    built.clear()

    assert read_all(Archive(io.BytesIO(data))).to_pylist() == [{"own": 1}]
    assert not built


def ordinary() -> pa.Table:
    """Two rows of every kind of column that archives have."""
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16, b"b" * 16], pa.binary(16)))
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    columns = {
        "image": pa.array([{"bytes": b"1", "path": "1.jpg"}, None]),
        "id": pa.array([1, 2], pa.uint16()),
        "score": pa.array([0.5, None], pa.float16()),
        "price": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(9, 2)),
        "place": pa.array(["Köln", "Köln"]).dictionary_encode(),
        "note": pa.array(["a", None], pa.large_string()),
        "view": pa.array(["a", "b"], pa.string_view()),
        "raw": pa.array([b"12", b"34"], pa.binary(2)),
        "taken": pa.array([datetime.datetime(1931, 5, 1), None], pa.timestamp("ns", "Europe/Berlin")),
        "day": pa.array([datetime.date(1931, 5, 1), None]),
        "lasted": pa.array([1, 2], pa.duration("s")),
        "tags": pa.array([["a", None], []]),
        "boxes": pa.array([[{"x": [1, 2]}], None], pa.list_(pa.struct([("x", pa.list_(pa.int8()))]))),
        "embedding": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "said": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())),
        "nothing": pa.nulls(2),
        "uuid": uuid,
        "uuids": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), uuid),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", "[]"])),
        "flag": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1], pa.int8())),
        "tensor": pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2], [3, 4]], tensor.storage_type)),
        "ray": pickles(Path("/nonexistent/marker"), 2),
        "deep": placements(Path("/nonexistent/marker"), 2)["deep"],
        "a.b": pa.array([1, 2]),
    }
    schema = pa.schema([pa.field(name, array.type) for name, array in columns.items()], {"origin": "museum"})
    schema = schema.set(1, schema.field("id").with_metadata({"unit": "none"}))
    return pa.table(columns, schema=schema)


def test_an_archive_round_trips(tmp_path: Path) -> None:
    pq.write_table(ordinary(), tmp_path / "a.parquet", row_group_size=1)
    target = Storage(tmp_path / "out")
    ParquetSink(target).write([ImageResult(Record(f"a.parquet#{i}"), b"image", "a.parquet", i) for i in range(2)])
    assert assemble(Storage(tmp_path), target, "a.parquet", fragments_of("a.parquet", "", "", "")) == Lost()

    after, before = pq.read_table(tmp_path / "out/a.parquet"), pq.read_table(tmp_path / "a.parquet")
    assert after.select(before.column_names).equals(before)
    for field in before.schema:
        assert after.schema.field(field.name).equals(field, check_metadata=True), field
    assert after.schema.metadata == before.schema.metadata
    kept, given = (pq.ParquetFile(file).schema for file in (tmp_path / "out/a.parquet", tmp_path / "a.parquet"))
    for index, name in enumerate(given.names):
        assert str(kept.column(index)) == str(given.column(index)), name


def test_rows_read_one_by_one_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one value of a dictionary is large, any could be, as far as is known before reading."""
    values = [bytes(90_000)] + [bytes([i]) * 10 for i in range(99)]
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet")
    monkeypatch.setattr(joining, "BUFFER_BYTES", 100_000)
    target = Storage(tmp_path / "out")
    ParquetSink(target).write([ImageResult(Record(f"a.parquet#{i}"), b"image", "a.parquet", i) for i in range(100)])
    assert assemble(Storage(tmp_path), target, "a.parquet", fragments_of("a.parquet", "", "", "")) == Lost()

    with (tmp_path / "a.parquet").open("rb") as file:
        assert {batch.num_rows for batch in Archive(file).batches(0, ["image"], 100_000)} == {1}
    after = pq.ParquetFile(tmp_path / "out/a.parquet")
    assert (after.metadata.num_rows, after.metadata.num_row_groups) == (100, 1)


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(3),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary()), ("more", pa.list_(pa.int8()))]),
    ],
    ids=str,
)
def test_an_image_is_bytes_of_any_type(kind: pa.DataType) -> None:
    images: list[Any] = [b"abc", None, b"xyz"]
    values = [{"bytes": image} for image in images] if pa.types.is_struct(kind) else images
    table = pa.table({"image": pa.array(values, kind), "other": pa.array([1, 2, 3])})
    archive = Archive(parquet(table))
    column = ImageColumn.of(archive.schema, "image")
    batch = read_all(archive, *column.leaves)

    assert batch.column_names == ["image"]
    assert [column.image(batch, 0), column.image(batch, 2)] == [b"abc", b"xyz"]
    with pytest.raises(ParquetError, match="has no image") as fault:
        column.image(batch, 1)
    assert fault.value.code == "empty"


def test_a_row_with_a_path_but_no_bytes_fails_with_advice() -> None:
    archive = Archive(
        parquet(pa.table({"image": [{"bytes": None, "path": "scans/1.jpg"}, {"bytes": b"2", "path": "2"}]}))
    )
    column = ImageColumn.of(archive.schema, "image")
    batch = read_all(archive, *column.leaves)

    with pytest.raises(ParquetError, match=r"a path \('scans/1.jpg'\) but no bytes"):
        column.image(batch, 0)
    assert column.image(batch, 1) == b"2"


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.list_(pa.binary()), pa.struct([("path", pa.string())])])
def test_a_column_of_another_type_is_not_an_image_column(kind: pa.DataType) -> None:
    archive = Archive(parquet(pa.table({"image": pa.nulls(1, kind)})))
    with pytest.raises(ParquetError, match="not bytes"):
        ImageColumn.of(archive.schema, "image")


def test_only_plain_columns_become_python_objects() -> None:
    archive = Archive(parquet(ordinary()))
    plain = plain_columns(archive.schema, [*archive.schema.names, "missing"])
    assert plain == [
        "id",
        "score",
        "price",
        "place",
        "note",
        "view",
        "taken",
        "day",
        "lasted",
        "nothing",
        "json",
        "flag",
        "a.b",
    ]
    rows = list(plain_rows(archive, ("id", "place", "tags", "ray")))
    assert rows == [{"id": 1, "place": "Köln"}, {"id": 2, "place": "Köln"}]


def test_text_length_is_limited() -> None:
    table = pa.table({"path": ["a", "b" * TEXT_BYTES, "c" * (TEXT_BYTES + 1)]})
    assert list(read_texts(Archive(parquet(table.slice(0, 2))), "path")) == table["path"].to_pylist()[:2]
    with pytest.raises(ParquetError, match=f"has {TEXT_BYTES + 1} bytes; at most {TEXT_BYTES}") as fault:
        list(read_texts(Archive(parquet(table)), "path"))
    assert fault.value.code == "too_large"


def test_a_declared_table_is_cast_and_completed() -> None:
    schema = pa.schema([("path", pa.string()), ("count", pa.int64()), ("new", pa.string())])
    file = parquet(pa.table({"count": pa.array([1, 2], pa.int8()), "path": ["a", "b"], "more": [[1], [2]]}))

    assert read_table(file, schema).to_pylist() == [
        {"path": "a", "count": 1, "new": None},
        {"path": "b", "count": 2, "new": None},
    ]
    assert read_table(file, schema, ["count"]).column_names == ["count"]
    with pytest.raises(ParquetError, match="column 'more' has the type list"):
        read_table(file, pa.schema([("more", pa.string())]))


def test_a_file_without_a_footer_or_with_an_encrypted_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet(pa.table({"a": [1]})).getvalue()
    for broken in (b"", b"PAR1", data[:-9], data[:20]):
        with pytest.raises(ParquetError, match="no footer"):
            Archive(io.BytesIO(broken))
    with pytest.raises(ParquetError, match="encrypted"):
        Archive(io.BytesIO(data[:-4] + b"PARE"))
    monkeypatch.setattr(parquet_footer, "FOOTER_BYTES", 10)
    with pytest.raises(ParquetError, match=r"the footer has .* at most 10") as fault:
        Archive(io.BytesIO(data))
    assert fault.value.code == "too_large"


def test_rows_that_do_not_fit_a_parquet_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MANY_ROWS", 10)
    with pytest.raises(ParquetError, match=r"claims \d+ rows in a file of"):
        Archive(parquet(pa.table({"a": pa.nulls(100_000, pa.int8())})))
    assert Archive(parquet(pa.table({"a": pa.nulls(100, pa.int8())}))).num_rows == 100


def test_a_null_fixed_size_list_counts_its_full_size() -> None:
    """The size is only in the Arrow schema: the file itself may be small."""
    file = parquet(pa.table({"a": pa.nulls(20, pa.list_(pa.int8(), 50))}))
    value = pq.read_metadata(file).metadata[b"ARROW:schema"]
    schema = base64.b64decode(value)
    place = max(i for i in range(0, len(schema), 4) if schema[i : i + 4] == (50).to_bytes(4, "little"))

    def sized(size: int) -> Archive:
        changed = schema[:place] + size.to_bytes(4, "little") + schema[place + 4 :]
        return Archive(with_schema(file, base64.b64encode(changed)))

    assert max(batch.nbytes for _, batch in sized(1 << 20).all_batches(["a"], 4 << 20)) < 4 << 20
    with pytest.raises(ParquetError, match="fixed-size lists") as fault:
        list(sized((1 << 31) - 1).all_batches(["a"], 4 << 20))
    assert fault.value.code == "too_large"


def damaged(count: int) -> Iterator[bytes]:
    """Files with a damaged footer; the first has a nullable column that is declared required."""
    data = parquet(pa.table({"a": [1, None]})).getvalue()
    optional = b"\x15\x04\x25\x02\x18\x01a"
    assert optional in data
    yield data.replace(optional, optional.replace(b"\x02", b"\x00"))
    data = parquet(ordinary(), row_group_size=1).getvalue()
    start = len(data) - 8 - len(parquet_footer.read_footer(io.BytesIO(data)))
    chance = random.Random(0)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(start, len(data))] = chance.choice((0, 255, chance.randrange(256)))
        yield bytes(changed)


def read_damaged(count: int) -> int:
    """Reads damaged files; returns how many of them were detected."""
    told = 0
    for data in damaged(count):
        try:
            read_all(Archive(io.BytesIO(data)))
        except (OSError, pa.ArrowException):
            told += 1
    return told


@pytest.mark.slow
def test_a_damaged_file_never_ends_the_process() -> None:
    """Arrow aborts the process if its own column chunk objects are requested for the first of these."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_damaged, 300).result() > 50


def test_the_malicious_pickle_acts_when_loaded(tmp_path: Path) -> None:
    call, arguments = Touch(tmp_path / "x").__reduce__()
    call(*arguments)  # type: ignore[operator, misc]
    assert (tmp_path / "x").exists()
