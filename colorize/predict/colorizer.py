"""Pictures in, color out: owns what lies between a grey picture of any size and a network's tensors.

Every picture is scaled, its aspect kept, into one of a few canvases of about `size` x `size` pixels, the rest of
which is filled by repeating the edge. Pictures of one canvas share a forward pass. No Ray here, and no files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.blotches import tame
from colorize.imaging.color import grey_to_lightness
from colorize.imaging.hinting import Seen, Spots, grey_of, held_to, hint_planes, spots_of
from colorize.models import BinModel, ColorModel
from colorize.models.fusion import fused
from colorize.predict.confidence import color_and_doubt
from colorize.predict.settings import ColorizerSettings

Grey = npt.NDArray[np.uint8]  # (h, w), upright, 0..255
LowAb = npt.NDArray[np.float16]  # (2, h, w), Lab units, covers the whole picture


class Colored(NamedTuple):
    """A picture's color, and how sure the network is of it: up to 1, larger is surer; 0 where it was not asked."""

    ab: LowAb
    confidence: float


CELL = 4  # pixels of the canvas that one output color covers at the coarsest; fitted sides are multiples
MIN_CELLS_PER_SIDE = 2  # in units of the model's stride, so that extreme strips still give the network context


class Colorizer:
    """A network in eval mode, ready to color batches of grey pictures on one device."""

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int = 192,
        batch_size: int = 8,
        device: str = "cpu",
        precision: str = "auto",
        temperature: float | None = None,
        saturation: float = 1.0,
    ) -> None:
        """Takes over `model` (moved to `device`, channels last, in float32 its batch normalizations folded).

        Args:
            model: maps L (B, 1, H, W) in [0, 100] to ab (B, 2, h, w); `model.stride` divides H and W.
            size: the network sees about `size` x `size` pixels, unless `model.canvas` says for which it was made.
            batch_size: pictures in a forward pass at most.
            device: a torch device name.
            precision: "float32", "bfloat16", or "auto" for bfloat16 where the hardware has it.
            temperature: of the bins' annealed mean, instead of the model's own.
            saturation: factor of the ab; 0 is grey.

        Raises:
            UsageError: a temperature, and a network without one.
        """
        if temperature is not None:
            set_temperature(model, temperature)
        self.device = torch.device(device)
        self.autocast = precision == "bfloat16" or (precision == "auto" and has_bfloat16(self.device))
        ready = model.eval() if self.autocast else fused(model.eval())
        self.model = ready.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stride = int(model.stride)  # type: ignore[arg-type]
        self.size, self.saturation = size, saturation
        self.canvas_size = int(getattr(model, "canvas", None) or size)
        self.batch_size = batch_size

    @classmethod
    def configured(
        cls, model: nn.Module, settings: ColorizerSettings, *, batch_size: int = 8, device: str = "cpu"
    ) -> Colorizer:
        """One that runs as the settings say. Raises UsageError for those that the network does not have."""
        return cls(model, batch_size=batch_size, device=device, **settings.model_dump())

    def __call__(self, greys: Sequence[Seen]) -> list[LowAb]:
        """The ab of each picture, at the network's resolution, in the order given.

        A picture whose colors are not finite comes back as NaN, for the caller to report.
        """
        return [colored.ab for colored in self.color(greys)]

    def color(self, greys: Sequence[Seen], *, confidence: bool = False) -> list[Colored]:
        """The same, and on demand with the network's confidence (see `colorize.predict.confidence`).

        A network that does not predict distributions then runs twice, the second time on mirrored pictures.
        Hints reach a network that takes them, and its colors are held to them (see `colorize.imaging.hinting`).
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, grey in enumerate(greys):
            height, width = grey.shape
            groups[canvas_for(height, width, self.canvas_size, self.stride)].append(index)
        colors: dict[int, Colored] = {}
        for canvas, members in groups.items():
            for chunk in _chunks(members, self.batch_size):
                predicted = self._predict([greys[i] for i in chunk], canvas, confidence)
                colors.update(zip(chunk, predicted, strict=True))
        return [colors[index] for index in range(len(greys))]

    @torch.inference_mode()
    def _predict(self, greys: Sequence[Seen], canvas: tuple[int, int], confidence: bool) -> Iterator[Colored]:
        fitted, spots = [fit(grey_of(grey), canvas) for grey in greys], [spots_of(grey) for grey in greys]
        batch_B1HW = torch.from_numpy(np.stack([_pad(grey, canvas) for grey in fitted])[:, None])
        L_B1HW = grey_to_lightness(batch_B1HW.to(self.device).float() / 255)
        hints = self._hints(spots, [grey.shape for grey in fitted], canvas)
        ab_B2hw, doubt_Bhw = self._forward(L_B1HW, hints, confidence)
        doubts = doubt_Bhw.float().cpu().numpy() if doubt_Bhw is not None else [None] * len(greys)
        for ab_2hw, doubt_hw, grey, own in zip(ab_B2hw.float().cpu().numpy(), doubts, fitted, spots, strict=True):
            h, w = (
                _covered(side, full, low) for side, full, low in zip(grey.shape, canvas, ab_2hw.shape[1:], strict=True)
            )
            sure = 0.0 if doubt_hw is None else float(1 - doubt_hw[:h, :w].mean())
            color = tame(self.saturation * ab_2hw[:, :h, :w])
            yield Colored(held_to(color, own).astype(np.float16), sure)  # a hint's color is what was asked for

    def _hints(
        self, spots: Sequence[Spots], shapes: Sequence[tuple[int, ...]], canvas: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """The planes that go to the network beside the lightness: none where there are no hints."""
        if not any(map(len, spots)):
            return ()
        if not getattr(self.model, "takes_hints", False):
            raise ValueError(f"{type(self.model).__name__} takes no color hints")
        return tuple(torch.from_numpy(plane).to(self.device) for plane in hint_planes(spots, shapes, canvas))

    def _forward(self, L_B1HW: Tensor, hints: tuple[Tensor, ...], confidence: bool) -> tuple[Tensor, Tensor | None]:
        L_B1HW = L_B1HW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            if confidence:
                return color_and_doubt(self.model, L_B1HW, *hints)
            if hints or not isinstance(self.model, ColorModel):
                return self.model(L_B1HW, *hints), None
            return self.model.color(L_B1HW), None


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Makes a network decode its bins at this temperature.

    Raises:
        UsageError: it has no bins, or decodes them in another way.
    """
    if not isinstance(model, BinModel) or model.temperature is None:
        kind = type(model).__name__
        raise UsageError(
            f"colorizer.temperature={temperature:g}: {kind} has no bins with a temperature: set it to null"
        )
    model.temperature = temperature


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware, and not emulated (then it would be slower)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@lru_cache(maxsize=4096)
def canvas_for(height: int, width: int, size: int, stride: int) -> tuple[int, int]:
    """The canvas (H, W), sides multiples of `stride`, area about size^2, that a picture fills best."""

    def filled(canvas: tuple[int, int]) -> float:
        scale = min(canvas[0] / height, canvas[1] / width)
        return scale * scale * height * width / (canvas[0] * canvas[1])

    return max(canvases(size, stride), key=filled)


@lru_cache(maxsize=64)
def canvases(size: int, stride: int) -> tuple[tuple[int, int], ...]:
    """All canvases for a size: from a strip of two strides' width to its transpose, areas within one stride."""
    area = (size / stride) ** 2
    tall = [
        (max(round(area / n), n), n) for n in range(min(MIN_CELLS_PER_SIDE, size // stride), round(math.sqrt(area)) + 1)
    ]
    return tuple(dict.fromkeys((h * stride, w * stride) for a, b in tall for h, w in ((a, b), (b, a))))


def fit(grey: Grey, canvas: tuple[int, int]) -> Grey:
    """`grey` scaled to touch the canvas in one direction and stay within it in the other, its aspect kept.

    Sides are rounded to multiples of `CELL`, so that whole output cells cover the picture.
    """
    height, width = grey.shape
    scale = min(canvas[0] / height, canvas[1] / width)
    h, w = (
        min(full, max(CELL, CELL * round(side * scale / CELL)))
        for side, full in zip((height, width), canvas, strict=True)
    )
    if (h, w) == (height, width):
        return grey
    return np.asarray(Image.fromarray(grey).resize((w, h), Image.Resampling.BICUBIC))


def _pad(grey: Grey, canvas: tuple[int, int]) -> Grey:
    h, w = grey.shape
    return np.pad(grey, ((0, canvas[0] - h), (0, canvas[1] - w)), mode="edge")


def _covered(side: int, canvas: int, low: int) -> int:
    return max(1, round(side * low / canvas))


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
