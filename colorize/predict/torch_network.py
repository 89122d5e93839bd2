"""Networks in PyTorch, for all architectures, on GPUs and CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness
from colorize.models import BinModel, ColorModel
from colorize.models.fusion import fused
from colorize.predict.colorizer import Colorizer
from colorize.predict.confidence import color_and_uncertainty
from colorize.predict.network import Float, Prediction


class TorchNetwork:
    """A network in eval mode with channels-last memory format; in float32, batch normalizations are folded."""

    def __init__(
        self, model: nn.Module, *, device: str = "cpu", precision: str = "auto", temperature: float | None = None
    ) -> None:
        """Takes over `model`.

        Args:
            model: maps L (B, 1, H, W) in [0, 100] to ab (B, 2, h, w); `model.stride` divides H and W.
            device: a torch device name.
            precision: "float32", "bfloat16", or "auto" for bfloat16 if the hardware supports it.
            temperature: of the annealed mean, instead of the model's own.

        Raises:
            UsageError: the network has no temperature.
        """
        if temperature is not None:
            set_temperature(model, temperature)
        self.device = device
        self.autocast = precision == "bfloat16" or (precision == "auto" and has_bfloat16(torch.device(device)))
        ready = model.eval() if self.autocast else fused(model.eval())
        self.model = ready.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stride = int(model.stride)  # type: ignore[arg-type]
        self.canvas: int | None = getattr(model, "canvas", None)
        self.takes_hints = bool(getattr(model, "takes_hints", False))
        self.lightness = grey_to_lightness(torch.arange(256) / 255).to(device)

    def __str__(self) -> str:
        return type(self.model).__name__

    @torch.inference_mode()
    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        """See `Network`. Asynchronous on a GPU."""
        batch_B1HW = torch.from_numpy(grey_B1HW).to(self.device, non_blocking=True)
        hints = tuple(torch.from_numpy(plane).to(self.device) for plane in hints_BCHW)
        ab_B2hw, uncertainty_Bhw = self.forward(self.lightness[batch_B1HW.int()], hints, confidence)
        return lambda: Prediction(_to_numpy(ab_B2hw), None if uncertainty_Bhw is None else _to_numpy(uncertainty_Bhw))

    def forward(self, L_B1HW: Tensor, hints: tuple[Tensor, ...], confidence: bool) -> tuple[Tensor, Tensor | None]:
        """The ab `(B, 2, h, w)` and, with `confidence`, the uncertainty `(B, h, w)`, on the device."""
        L_B1HW = L_B1HW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.autocast):
            if confidence:
                return color_and_uncertainty(self.model, L_B1HW, *hints)
            if hints or not isinstance(self.model, ColorModel):
                return self.model(L_B1HW, *hints), None
            return self.model.color(L_B1HW), None

    def move(self, device: str) -> None:
        """See `Network`."""
        self.device, self.model, self.lightness = device, self.model.to(device), self.lightness.to(device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def torch_colorizer(
    model: nn.Module,
    *,
    size: int = 192,
    batch_size: int = 8,
    device: str = "cpu",
    saturation: float = 1.0,
    **options: Any,
) -> Colorizer:
    """A colorizer with a network in PyTorch. `options` are those of `TorchNetwork`, the others of `Colorizer`."""
    network = TorchNetwork(model, device=device, **options)
    return Colorizer(network, size=size, batch_size=batch_size, saturation=saturation)


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Sets the temperature at which a network decodes its bins.

    Raises:
        UsageError: the network has no temperature.
    """
    if not isinstance(model, BinModel) or model.temperature is None:
        kind = type(model).__name__
        raise UsageError(
            f"colorizer.temperature={temperature:g}: {kind} has no bins with a temperature: set it to null"
        )
    model.temperature = temperature


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware supports bfloat16; emulation would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _to_numpy(x: Tensor) -> Float:
    array: Float = x.float().cpu().numpy()
    return array
