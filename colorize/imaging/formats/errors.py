"""The error raised by reading an image."""

from __future__ import annotations


class ImageDecodeError(ValueError):
    """An image cannot be read. `str(e)` is one line, `code` is one of:

    `empty`, `not_an_image`, `unsupported` (format or sample type), `truncated` (the file ends early), `unreadable`
    (damaged), `too_large` (more pixels or bytes than allowed), `oversized_metadata` (more than the file's size allows),
    `changed` (the file has changed since it was opened).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code

    def __reduce__(self) -> tuple[type[ImageDecodeError], tuple[str, str]]:
        return type(self), (self.code, str(self))
