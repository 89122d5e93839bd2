"""Which pictures are held out, when the archive itself does not say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from colorize.training.settings import SplitSettings


def assign_splits(keys: Sequence[str], settings: SplitSettings) -> list[str]:
    """A split ("train", "val" or "test") for each picture, in exact shares and independent of their order.

    Args:
        keys: what identifies a picture, such as its path.
        settings: fractions and seed.
    """
    order = sorted(range(len(keys)), key=lambda i: hashlib.sha256(f"{settings.seed}:{keys[i]}".encode()).digest())
    tests, vals = round(settings.test * len(keys)), round(settings.val * len(keys))
    splits = ["train"] * len(keys)
    for rank, index in enumerate(order[: tests + vals]):
        splits[index] = "test" if rank < tests else "val"
    return splits
