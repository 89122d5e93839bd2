"""Pictures in, color out: owns what lies between a grey picture of any size and a network's tensors.

Every picture is scaled, its aspect kept, into one of a few canvases of about `size` x `size` pixels, the rest of
which is filled by repeating the edge. Pictures of one canvas share a forward pass. No Ray here, and no files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.blotches import may_be_tamed, tame
from colorize.imaging.canvas import Canvases, Fitted, Shape, stacked
from colorize.imaging.color import grey_to_lightness
from colorize.imaging.hinting import Seen, Spots, held_to, hint_planes
from colorize.models import BinModel, ColorModel
from colorize.models.fusion import fused
from colorize.predict.confidence import color_and_doubt
from colorize.predict.settings import ColorizerSettings

LowAb = npt.NDArray[np.float16]  # (2, h, w), Lab units, covers the whole picture


class Colored(NamedTuple):
    """A picture's color, and how sure the network is of it: up to 1, larger is surer; 0 where it was not asked."""

    ab: LowAb
    confidence: float


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
        self.lightness = grey_to_lightness(torch.arange(256) / 255).to(self.device)

    @classmethod
    def configured(
        cls, model: nn.Module, settings: ColorizerSettings, *, batch_size: int = 8, device: str = "cpu"
    ) -> Colorizer:
        """One that runs as the settings say. Raises UsageError for those that the network does not have."""
        return cls(model, batch_size=batch_size, device=device, **settings.model_dump())

    def __call__(self, greys: Sequence[Seen | Fitted]) -> list[LowAb]:
        """The ab of each picture, at the network's resolution, in the order given.

        A picture whose colors are not finite comes back as NaN, for the caller to report.
        """
        return [colored.ab for colored in self.color(greys)]

    def color(self, greys: Sequence[Seen | Fitted], *, confidence: bool = False) -> list[Colored]:
        """The same, and on demand with the network's confidence (see `colorize.predict.confidence`).

        A network that does not predict distributions then runs twice, the second time on mirrored pictures.
        Hints reach a network that takes them, and its colors are held to them (see `colorize.imaging.hinting`).
        """
        fitted = [Canvases(self.canvas_size, self.stride).fitted(grey) for grey in greys]
        groups: dict[Shape, list[int]] = defaultdict(list)
        for index, picture in enumerate(fitted):
            groups[picture.canvas].append(index)
        chunks = [chunk for members in groups.values() for chunk in _chunks(members, self.batch_size)]
        # A GPU works on all of them while the first one's colors are waited for.
        started = [self._start([fitted[index] for index in chunk], confidence) for chunk in chunks]
        colors: dict[int, Colored] = {}
        for chunk, predicted in zip(chunks, started, strict=True):
            colors.update(zip(chunk, self._finish([fitted[index] for index in chunk], *predicted), strict=True))
        return [colors[index] for index in range(len(greys))]

    @torch.inference_mode()
    def _start(self, pictures: list[Fitted], confidence: bool) -> tuple[Tensor, Tensor | None]:
        """ab (B, 2, h, w) of pictures of one canvas, and on demand the doubt (B, h, w), on the device."""
        batch_B1HW = torch.from_numpy(stacked(pictures)).to(self.device, non_blocking=True)
        L_B1HW = self.lightness[batch_B1HW.int()]
        spots, shapes = [picture.spots for picture in pictures], [picture.shape for picture in pictures]
        return self._forward(L_B1HW, self._hints(spots, shapes, pictures[0].canvas), confidence)

    def _finish(self, pictures: list[Fitted], ab_B2hw: Tensor, doubt_Bhw: Tensor | None) -> Iterator[Colored]:
        colors = np.float32(self.saturation) * ab_B2hw.float().cpu().numpy()
        doubts = doubt_Bhw.float().cpu().numpy() if doubt_Bhw is not None else [None] * len(pictures)
        halves, vivid = colors.astype(np.float16), may_be_tamed(colors)
        low = colors.shape[2:]
        for index, (picture, doubt_hw) in enumerate(zip(pictures, doubts, strict=True)):
            h, w = (_covered(*sides) for sides in zip(picture.shape, picture.canvas, low, strict=True))
            ab_2hw = halves[index, :, :h, :w]
            if vivid[index] or len(picture.spots):  # a hint's color is what was asked for
                ab_2hw = held_to(tame(colors[index, :, :h, :w]), picture.spots).astype(np.float16)
            yield Colored(ab_2hw, 0.0 if doubt_hw is None else float(1 - doubt_hw[:h, :w].mean()))

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


def _covered(side: int, canvas: int, low: int) -> int:
    return max(1, round(side * low / canvas))


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Runs of `size`, then of ever smaller powers of two: few sizes, so that a GPU's libraries plan for few."""
    start = 0
    while left := len(items) - start:
        count = size if left >= size else 1 << (left.bit_length() - 1)
        yield items[start : start + count]
        start += count
