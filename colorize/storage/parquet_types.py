"""Arrow extension types in Parquet, represented by their storage types with names in the fields' metadata."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

SCHEMA_KEY, HIDDEN_SCHEMA_KEY = b"ARROW:schema", b"ARROW-schema"
NAME_KEY, HIDDEN_NAME_KEY = b"ARROW:extension:name", b"ARROW-extension-name"
EXTENSION_KEYS = (NAME_KEY, b"ARROW:extension:metadata")
VALUE_BYTES = 16  # maximum size of a fixed-width value in a list
LISTS = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


def is_foreign(field: pa.Field) -> bool:
    """Whether a field has an extension type at any depth that is not Arrow's own."""
    return isinstance(field.type, pa.ExtensionType) or any(map(is_foreign, children(field.type)))


def children(kind: pa.DataType) -> Iterable[pa.Field]:
    if pa.types.is_dictionary(kind):
        return [pa.field("values", kind.value_type)]
    return [kind.field(index) for index in range(kind.num_fields)]


def _is_hidden(field: pa.Field) -> bool:
    return HIDDEN_NAME_KEY in (field.metadata or {}) or any(map(_is_hidden, children(field.type)))


def with_names(schema: pa.Schema) -> pa.Schema:
    """The schema with the original names of extension types in its fields' metadata."""
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != HIDDEN_SCHEMA_KEY}
    return pa.schema([_named(field) for field in schema], metadata or None)


def _named(field: pa.Field) -> pa.Field:
    metadata = dict(field.metadata or {})
    if isinstance(field.type, pa.BaseExtensionType):  # Arrow writes its name
        kept = {key: value for key, value in metadata.items() if key not in (*EXTENSION_KEYS, HIDDEN_NAME_KEY)}
    else:
        kept = {NAME_KEY if key == HIDDEN_NAME_KEY else key: value for key, value in metadata.items()}
    return field.with_type(_named_type(field.type)).with_metadata(kept or None)


def _named_type(kind: pa.DataType) -> pa.DataType:
    """The type with `_named` applied to its children."""
    if not any(map(_is_hidden, children(kind))):
        return kind
    if pa.types.is_struct(kind):
        return pa.struct([_named(child) for child in kind])
    if pa.types.is_map(kind):
        return pa.map_(_named(kind.key_field), _named(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_named(kind.value_field), kind.list_size)
    for is_one, make in LISTS:
        if is_one(kind):
            return make(_named(kind.value_field))
    return kind


def padding(kind: pa.DataType) -> int:
    """Maximum size of a null of this type, because of fixed-size lists."""
    within = [padding(child.type) for child in children(kind)]
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return size * max(VALUE_BYTES, *within)
    return sum(within)
