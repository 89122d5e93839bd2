"""What often lies where weights should: the page that a server sent in their place, or a pointer to them."""

from __future__ import annotations

GLANCE_BYTES = 512  # of a file's start tell what it is
_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer, and not the file that it stands for"),
    (b"<!doctype html", "a web page (HTML), and not the file that it offers"),
    (b"<html", "a web page (HTML), and not the file that it offers"),
    (b"<?xml", "a server's answer in XML, most often an error"),
    (b"<error>", "a server's answer in XML, most often an error"),
    (b'{"error', "a server's answer in JSON, most often an error"),
)


def mistaken_for_weights(start: bytes) -> str | None:
    """Names what a file is that was saved as weights by mistake, from its first bytes; None if it is no such file.

    >>> mistaken_for_weights(b"version https://git-lfs.github.com/spec/v1")
    'a git-lfs pointer, and not the file that it stands for'
    """
    text = start[:GLANCE_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((meaning for sign, meaning in _STARTS if text.startswith(sign)), None)
