"""The one error that reading an image raises."""

from __future__ import annotations


class ImageDecodeError(ValueError):
    """An image that cannot be read. `str(e)` is one clear line, `code` one of a few countable words:

    `empty`, `not_an_image`, `unsupported` (a format or sample type that is not for this program), `truncated`
    (the file ends early), `unreadable` (damaged), `too_large` (more pixels or bytes than allowed),
    `oversized_metadata` (more of it than a file of its size can hold), `changed` (the file was changed while it was
    read).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code

    def __reduce__(self) -> tuple[type[ImageDecodeError], tuple[str, str]]:
        return type(self), (self.code, str(self))
