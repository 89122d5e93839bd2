"""Fuzzes the path from bytes to colored bytes with mutated files of every format: no crash, no hang, no false claim.

python scripts/fuzz_images.py [--seconds 1800] [--seed 1] [--keep FOLDER]

Each file is read, colored and encoded as by a worker. The result must be a copy whose luminance equals the source's if
it claims so, or an `ImageDecodeError` with a code. Anything else is printed, its file is saved in FOLDER, and the exit
status is 1. A crash or a hang ends the process: the file is then FOLDER/present.bin.
"""

from __future__ import annotations

import faulthandler
import random
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from colorize.imaging.formats import ImageDecodeError, Provenance, decode, decode_small, has_pages
from colorize.imaging.formats.jpeg_luma import luma_coefficients
from colorize.imaging.formats.jpeg_stream import first_plane
from colorize.predict.render import Rendered, render
from tests.every_kind import images
from tests.images import smooth_ab

MAX_PIXELS = 4_000_000
HANG_SECONDS = 60
PROVENANCE = Provenance("fuzz", "0" * 64, "mutated", "1" * 64)
NUMBERS = (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\1\0\0\0", b"\x80\0\0\0")


def main(
    seconds: Annotated[float, typer.Option(min=1)] = 1800,
    seed: Annotated[int, typer.Option()] = 1,
    keep: Annotated[Path, typer.Option()] = Path("fuzzed"),
) -> None:
    """Mutates and colors files until the time is over."""
    faulthandler.enable()
    keep.mkdir(parents=True, exist_ok=True)
    rng, seen = random.Random(seed), Counter[str]()
    sources = [data for name, data in images() if name.endswith(("17x33", "64x48"))]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(rng.choice(sources), rng)
        (keep / "present.bin").write_bytes(data)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        outcome, is_fine = outcome_of(data)
        if not is_fine and not seen[outcome]:
            (keep / f"{seed}-{sum(seen.values())}.bin").write_bytes(data)
            typer.echo(outcome)
        seen[outcome] += 1
    faulthandler.cancel_dump_traceback_later()
    for word, count in seen.most_common():
        typer.echo(f"{count:8,} {word}")
    raise typer.Exit(any(word.startswith("!") for word in seen))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with one to ten changes, half of them in the headers."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 10))):
        at = rng.randrange(min(len(changed), 600) if rng.random() < 0.5 else len(changed))
        if rng.random() < 0.3:  # a TIFF's directories are often at the end
            at = len(changed) - 1 - rng.randrange(min(len(changed), 400))
        match rng.randrange(6):
            case 0 | 1:
                changed[at] = rng.randrange(256)
            case 2:
                changed[at : at + 4] = rng.choice(NUMBERS)
            case 3:
                del changed[at : at + rng.randrange(1, 40)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 5:
                del changed[rng.randrange(1, len(changed) + 1) :]
        changed = changed or bytearray(b"?")
    return bytes(changed)


def outcome_of(data: bytes) -> tuple[str, bool]:
    """The outcome of a file as a word to count, starting with "!" if it is wrong; and whether it is right."""
    try:
        info = decode_small(data, 64 * 64, max_pixels=MAX_PIXELS).info
        colored = range(0, info.frames, 2) if has_pages(info) else (0,)
        ab = {page: smooth_ab() for page in colored} if has_pages(info) else smooth_ab()
        made = render(data, ab, PROVENANCE, max_pixels=MAX_PIXELS)
    except ImageDecodeError as error:
        return error.code, True
    except Exception as error:  # of any kind: that is what the fuzzer looks for
        return f"! {type(error).__name__}: {error}"[:200], False
    if made.luma_exact and not is_exact(data, made, colored):
        return f"! a false luma_exact of {info.format} {info.mode}", False
    return "ok", True


def is_exact(data: bytes, made: Rendered, colored: range | tuple[int, ...]) -> bool:
    """Whether the copy's luminance is the source's: a JPEG's scan bits or coefficients, otherwise every pixel.

    Of a damaged scan the same bits may decode to other coefficients: libjpeg-turbo has two Huffman decoders, and
    chooses by how many bytes follow.
    """
    if made.data[:2] == b"\xff\xd8":
        plane = first_plane(data)
        if plane is not None and plane == first_plane(made.data):
            return True
        before, after = luma_coefficients(data), luma_coefficients(made.data)
        down, across = (min(a, b) for a, b in zip(before.shape[:2], after.shape[:2], strict=True))
        return np.array_equal(before[:down, :across], after[:down, :across])
    pairs = ([decode(side, max_pixels=MAX_PIXELS, page=page).luma for side in (data, made.data)] for page in colored)
    return all(np.array_equal(before, after) for before, after in pairs)


if __name__ == "__main__":
    typer.run(main)
