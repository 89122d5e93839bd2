"""Pages of a bucket's list: parsed as by botocore, to which unusual pages are left."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.handlers import decode_list_object_v2
from botocore.parsers import create_parser
from botocore.session import get_session
from hypothesis import given, settings
from hypothesis import strategies as st

from colorize.storage.list_pages import parse_page
from colorize.storage.listing import Entry, identity_of

SHAPE = get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
TAG = "&quot;9b2cf535f27731c974343645a3985328&quot;"


def item(key: str, size: int = 5, tag: str = TAG, before: str = "", between: str = "") -> str:
    return (
        f"<Contents>{before}<Key>{escape(key)}</Key>{between}<LastModified>2025-01-31T23:59:59.000Z</LastModified>"
        f"<ETag>{tag}</ETag>{between}<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def page(*items: str, gap: str = "") -> bytes:
    head = "<IsTruncated>true</IsTruncated><KeyCount>1000</KeyCount><EncodingType>url</EncodingType>"
    tail = "<NextContinuationToken>a&amp;b</NextContinuationToken>"
    text = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{head}{gap.join(items)}{tail}'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}</ListBucketResult>'.encode()


def by_botocore(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = create_parser("rest-xml").parse({"headers": {}, "status_code": 200, "body": body}, SHAPE)
    decode_list_object_v2(found, {"encoding_type_auto_set": True})
    return found


def check(body: bytes) -> None:
    found = parse_page(body)
    assert found
    expected = by_botocore(body)
    assert list(found[0]) == [Entry(each["Key"], each["Size"], identity_of(each)) for each in expected["Contents"]]
    assert by_botocore(found[1]) | {"Contents": expected["Contents"]} == expected


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_a_page_is_parsed_as_by_botocore(keys: list[str]) -> None:
    check(page(*(item(key.strip() or "x", size) for size, key in enumerate(keys))))


@pytest.mark.parametrize(
    "between",
    [
        "",
        "\n    ",
        "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>",
        "<Generation>17</Generation>",
        "<Owner><ID>a</ID><DisplayName>a</DisplayName></Owner>",
    ],
)
def test_other_elements_of_objects_are_ignored(between: str) -> None:
    check(page(item("a"), item("b", between=between), item("c"), gap="\n" if between.isspace() else ""))
    check(page(item("a", before=between), item("b")))


@pytest.mark.parametrize("tag", [TAG, TAG.replace("&quot;", '"'), TAG.replace("&quot;", ""), "&quot;a-2&quot;"])
def test_etags_may_be_quoted(tag: str) -> None:
    check(page(item("a", tag=tag), item("b", tag=tag)))


@pytest.mark.parametrize(
    "unusual",
    [
        item("a", before="<Owner><Key>another</Key></Owner>"),
        item("a", before="<Size>5</Size>").replace("</ETag><Size>5</Size>", "</ETag>"),
        item("a", size=-1),
        item("a").replace("<Size>5</Size>", ""),
        item("a", tag=""),
        item("a", tag="9b2cf"),
        item("a").replace("<Key>a", "<Key>a&#13;"),
        item("a").replace("<Key>a", "<Key><![CDATA[a]]>"),
        item("a").replace("<Contents>", "<Contents >"),
    ],
)
def test_a_page_with_anything_unusual_is_left_to_botocore(unusual: str) -> None:
    assert parse_page(page(item("b"), unusual)) is None
    assert parse_page(page(unusual, item("b"))) is None


def test_a_page_without_objects_or_that_is_no_text_is_left_to_botocore() -> None:
    assert parse_page(page()) is None
    assert parse_page(page(item("a")) + b"\xff") is None
