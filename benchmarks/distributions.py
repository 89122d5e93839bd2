"""Cached predictions of a network with color bins, so that any number of decodings runs it once.

A view is a canvas size, plain or mirrored (with the distributions mirrored back).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.kinds import DecodedImage, greys
from colorize.errors import UsageError
from colorize.imaging.canvas import fit
from colorize.imaging.color import grey_to_lightness
from colorize.models import BinModel
from colorize.models.checkpoint import load_checkpoint
from colorize.models.fusion import fused
from colorize.predict.model_files import ModelFile

Float = npt.NDArray[np.float32]
_BATCH = 8


class View(NamedTuple):
    """How an image is presented to the network, as a square."""

    size: int
    mirrored: bool = False


@dataclass
class Distributions:
    """A model's log probabilities for images, by view: `(N, Q, size / 4, size / 4)`, float16."""

    model: ModelFile
    images: Sequence[DecodedImage]
    cache: Path
    bins_Q2: Float = field(init=False)  # noqa: N815 (the name carries the shape)
    _open: dict[View, npt.NDArray[np.float16]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError for a network that predicts no distribution over bins."""
        network = load_checkpoint(self.model.data).model
        if not isinstance(network, BinModel):
            raise UsageError(f"--model {self.model.name}: {self.model.architecture} has no color bins to decode")
        self._network: BinModel = fused(network.eval())  # type: ignore[assignment]
        self.bins_Q2 = network.bins_Q2.numpy().astype(np.float32)

    def of(self, index: int, view: View) -> Float:
        """Log probabilities of one image, `(Q, h, w)`."""
        if view not in self._open:
            self._open[view] = np.load(self._file(view), mmap_mode="r")
        return np.asarray(self._open[view][index], np.float32)

    def prepare(self, view: View) -> None:
        """Runs the network, unless its output is cached."""
        if not self._file(view).exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            unfinished = self._file(view).with_suffix(".part.npy")
            np.save(unfinished, np.concatenate(list(self._predicted(view))))
            unfinished.rename(self._file(view))

    def _file(self, view: View) -> Path:
        seen = hashlib.sha256("".join(p.path for p in self.images).encode()).hexdigest()[:8]
        return self.cache / f"{self.model.sha256[:8]}-{seen}-{view.size}{'-mirrored' * view.mirrored}.npy"

    def _predicted(self, view: View) -> list[npt.NDArray[np.float16]]:
        canvas = (view.size, view.size)
        seen = [fit(grey, canvas) for grey in greys(self.images)]
        return [self._batch(seen[start : start + _BATCH], view) for start in range(0, len(seen), _BATCH)]

    @torch.inference_mode()
    def _batch(self, seen: Sequence[npt.NDArray[np.uint8]], view: View) -> npt.NDArray[np.float16]:
        L_B1HW = grey_to_lightness(torch.from_numpy(np.stack(seen)[:, None]).float() / 255)
        logits = self._network.logits(L_B1HW.flip(3) if view.mirrored else L_B1HW)
        log_p = (logits.flip(3) if view.mirrored else logits).float().log_softmax(dim=1)
        return np.asarray(log_p.numpy(), np.float16)
