"""Parses README.md and docs/: fenced blocks, the commands in them, and every code span."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[a-z])(?![\w-])")
INSTEAD = {  # substitutions in commands of documents; the first match wins where several overlap
    "https://example.org/street.png": "{web}/street.png --allow-private",
    "jobs/train.py --config configs/train/unet.yaml --data s3://... --output s3://...": "jobs/train.py "
    "--config configs/train/unet.yaml --data s3://bucket/photos --output s3://bucket/runs/mine",
    "jobs/bulk_colorize.py --input s3://... --output s3://...": "jobs/bulk_colorize.py --input s3://archive/scans "
    "--output s3://archive/colored",
    "--data s3://... --output s3://...": "--data s3://bucket/photos --output s3://bucket/eval",
    "configs/train/unet.yaml": "configs/train/unet.yaml --set data.short_side=64 --set trainer.sizes=[64] "
    "--set trainer.batch_size=4 --set trainer.epochs=1 --set validation.size=64 --set validation.samples=2 "
    "--set validation.test=true",
    "trainer.workers=8": "trainer.workers=1",
}


@dataclass(frozen=True)
class Block:
    """A fenced block that a reader may run.

    Attributes:
        document: its path below the repository.
        language: `bash` or `python`.
        text: as it stands there.
    """

    document: str
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """The document, and the block's first command up to a comment."""
        return self.document, self.commands[0]

    @property
    def commands(self) -> list[str]:
        """A shell block's commands, one per line without comments; for Python its lines."""
        joined = self.text.replace("\\\n", " ") if self.language == "bash" else self.text
        lines = [re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", line)).strip() for line in joined.splitlines()]
        return [line for line in lines if line]


def blocks() -> list[Block]:
    """The blocks of all documents, in order."""
    return [
        Block(str(path.relative_to(ROOT)), found[1], found[2])
        for path in DOCUMENTS
        for found in _FENCE.finditer(path.read_text())
        if found[1]
    ]


def fenced(path: Path, language: str) -> list[str]:
    """The texts of a document's blocks in a language, "" for none."""
    return [found[2] for found in _FENCE.finditer(path.read_text()) if found[1] == language]


def block(document: str, first: str) -> Block:
    """The block of a document that begins with a command."""
    (found,) = (each for each in blocks() if each.document == document and each.commands[0].startswith(first))
    return found


def here(command: str, web: str = "") -> str:
    """A command of a document with its placeholders replaced; `web` is the address of a web server."""
    for words, others in INSTEAD.items():
        command = command.replace(words, others.format(web=web))
    return command


def code(path: Path) -> Iterator[str]:
    """All code in a document: the commands of its blocks, and its code spans on one line each."""
    text = path.read_text()
    for found in _FENCE.finditer(text):
        yield from Block("", found[1] or "text", found[2]).commands
    yield from (" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text)))


def options(command: str) -> list[str]:
    """The options that a command or a code span names."""
    return _OPTION.findall(command.split(" -- ")[-1] if " -- " in command else command)


def words(command: str) -> list[str]:
    """A command, split as by a shell."""
    return shlex.split(command)
