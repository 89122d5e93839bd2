"""Recognizes files saved in place of weights: a server's error page, or a git-lfs pointer."""

from __future__ import annotations

GLANCE_BYTES = 512  # enough of a file's start
_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer, and not the file that it stands for"),
    (b"<!doctype html", "a web page (HTML), and not the file that it offers"),
    (b"<html", "a web page (HTML), and not the file that it offers"),
    (b"<?xml", "a server's answer in XML, most often an error"),
    (b"<error>", "a server's answer in XML, most often an error"),
    (b'{"error', "a server's answer in JSON, most often an error"),
)


def mistaken_for_weights(start: bytes) -> str | None:
    """What a file is instead of weights, from its first bytes; None if nothing is wrong.

    >>> mistaken_for_weights(b"version https://git-lfs.github.com/spec/v1")
    'a git-lfs pointer, and not the file that it stands for'
    """
    text = start[:GLANCE_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((meaning for sign, meaning in _STARTS if text.startswith(sign)), None)
