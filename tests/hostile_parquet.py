"""Parquet files with extension types whose pickles execute code when they become Python objects."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType


class Touch:
    """Its pickle creates a file when loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def pickles(marker: Path, count: int) -> pa.ExtensionArray:
    """A column of the type that Ray registers for any Python object."""
    storage = pa.array([pickle.dumps(Touch(marker))] * count, pa.large_binary())
    return pa.ExtensionArray.from_storage(ArrowPythonObjectType(), storage)


def placements(marker: Path, count: int) -> dict[str, pa.Array]:
    """The pickles as a column of their own, and within each kind of column that can hold them."""
    bad = pickles(marker, count)
    short, long = pa.array(range(count + 1), pa.int32()), pa.array(range(count + 1), pa.int64())
    return {
        "plain": bad,
        "struct": pa.StructArray.from_arrays([bad], ["inner"]),
        "image": pa.StructArray.from_arrays([pa.array([b"x"] * count), bad], ["bytes", "path"]),
        "image bytes": pa.StructArray.from_arrays([bad, pa.array(["a.jpg"] * count)], ["bytes", "path"]),
        "list": pa.ListArray.from_arrays(short, bad),
        "large list": pa.LargeListArray.from_arrays(long, bad),
        "list view": pa.ListViewArray.from_arrays(short[:-1], pa.array([1] * count, pa.int32()), bad),
        "fixed-size list": pa.FixedSizeListArray.from_arrays(bad, 1),
        "map": pa.MapArray.from_arrays(short, pa.array(["key"] * count), bad),
        "deep": pa.ListArray.from_arrays(short, pa.StructArray.from_arrays([pa.array(["a"] * count), bad], ["a", "b"])),
    }
