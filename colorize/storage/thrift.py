"""A parser of Thrift's compact protocol, as far as needed for Parquet: structs of numbers, bytes and lists.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEPTH = 16  # maximum nesting of structs and lists; a Parquet footer has 8
PARTS = 2_000_000  # maximum number of values in a struct, including nested ones


class ThriftError(ValueError):
    """Invalid bytes."""


class CompactReader:
    """Reads structs from bytes; `position` is the offset of the next one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = self._parts = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The values of a struct by field id.

        Raises:
            ThriftError: it is truncated, nested too deep, or its fields are not in order.
        """
        if depth > DEPTH:
            raise ThriftError("structs are nested too deep")
        fields: dict[int, Any] = {}
        last = 0
        while head := self._bytes(1)[0]:
            number = last + (head >> 4) if head >> 4 else self._zigzag()
            if number <= last:
                raise ThriftError("fields are duplicate or not in order")
            fields[number] = self._value(head & 15, depth + 1)
            last = number
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        self._parts += 1
        if self._parts > PARTS:
            raise ThriftError(f"it has more than {PARTS} values")
        if (read := _READERS.get(kind)) is None:
            raise ThriftError(f"a field has the unknown type {kind}")
        return read(self, depth)

    def _list(self, depth: int) -> list[Any]:
        head = self._bytes(1)[0]
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self.position or depth > DEPTH:
            raise ThriftError("a list is longer than the data")
        if head & 15 in (1, 2):  # booleans in lists are bytes
            return list(self._bytes(count))
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _bytes(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self._data):
            raise ThriftError("a struct is truncated")
        return self._data[start : self.position]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._bytes(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("a number has too many bytes")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


_READERS: dict[int, Callable[[CompactReader, int], Any]] = {  # by type
    1: lambda reader, _: True,
    2: lambda reader, _: False,
    3: lambda reader, _: reader._bytes(1)[0],
    4: lambda reader, _: reader._zigzag(),
    5: lambda reader, _: reader._zigzag(),
    6: lambda reader, _: reader._zigzag(),
    7: lambda reader, _: reader._bytes(8),
    8: lambda reader, _: reader._bytes(reader._varint()),
    9: CompactReader._list,
    10: CompactReader._list,
    12: CompactReader.struct,
}
