"""Recognizes files saved in place of weights: a server's error page, or a git-lfs pointer."""

from __future__ import annotations

PREFIX_BYTES = 512  # enough of a file's start
_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer instead of the file"),
    (b"<!doctype html", "a web page (HTML) instead of the file"),
    (b"<html", "a web page (HTML) instead of the file"),
    (b"<?xml", "a server's XML response, usually an error"),
    (b"<error>", "a server's XML response, usually an error"),
    (b'{"error', "a server's JSON response, usually an error"),
)


def mistaken_for_weights(start: bytes) -> str | None:
    """What a file is instead of weights, from its first bytes; None if nothing is wrong.

    >>> mistaken_for_weights(b"version https://git-lfs.github.com/spec/v1")
    'a git-lfs pointer instead of the file'
    """
    text = start[:PREFIX_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((meaning for sign, meaning in _STARTS if text.startswith(sign)), None)
