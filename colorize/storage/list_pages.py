"""Pages of a bucket's list read quickly: botocore takes a tenth of a second for a thousand keys, dates above all.

What it makes of a page is made here by one regular expression, if the page is as S3 and most servers send it: each
object's key, date, ETag and size in this order. The rest of the page, and any other page, is botocore's to read.
"""

from __future__ import annotations

import html
import re
from datetime import datetime
from typing import Any

EVENT = "before-parse.*.ListObjectsV2"  # with a star: handlers of `before-parse.s3.*`, one of which parses, come later
_OBJECT = re.compile(
    r"<Contents>\s*<Key>([^<]*)</Key>\s*<LastModified>([^<]*)</LastModified>\s*<ETag>([^<]*)</ETag>\s*"
    r"(?:<Checksum(\w+)>[^<]*</Checksum\4>\s*)*<Size>(\d+)</Size>"
)
_OPEN, _CLOSE = "<Contents>", "</Contents>"
_NUMBERED = "&#"  # references to characters, which XML and HTML do not always read alike


def read_quickly(client: Any) -> None:
    """Has a botocore client read its lists of objects so; any number of times."""
    client.meta.events.register(EVENT, _read, unique_id="colorize-list-pages")


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """A handler of botocore's: takes the objects out of a response before it is parsed."""
    if response_dict["status_code"] == 200 and (found := objects_in(response_dict["body"])):
        customized_response_dict["Contents"], response_dict["body"] = found


def objects_in(body: bytes) -> tuple[list[dict[str, Any]], bytes] | None:
    """The objects on a page as botocore gives them, and the page without them; None for a page to be left to it."""
    try:
        text = body.decode().replace("&quot;", '"')
        found = _OBJECT.findall(text)
        if not found or len(found) != text.count(_OPEN[:-1]) or _NUMBERED in text:
            return None
        objects = [
            {"Key": key, "LastModified": datetime.fromisoformat(date), "ETag": tag, "Size": int(size)}
            for key, date, tag, _, size in found
        ]
    except ValueError:  # neither UTF-8 nor dates
        return None
    if "&" in text:
        for each in objects:
            each["Key"], each["ETag"] = html.unescape(each["Key"]), html.unescape(each["ETag"])
    head, _, rest = body.partition(_OPEN.encode())
    return objects, head + rest.rpartition(_CLOSE.encode())[2]
