"""The networks, behind one explicit registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from colorize.config import UsageError, nearest
from colorize.models.base import BinModel, ColorModel, RgbModel
from colorize.models.dense import BnConvDense, ConvDense, Dense
from colorize.models.gan import Gan
from colorize.models.lab_cnn import LabCnn
from colorize.models.palette_cnn import PaletteCnn
from colorize.models.superres_cnn import SuperresCnn
from colorize.models.unet_heads import create_unet

__all__ = ["BinModel", "ColorModel", "RgbModel", "create_model", "list_models"]

_REGISTRY: dict[str, Callable[..., ColorModel]] = {
    "bn_conv_dense": BnConvDense,
    "conv_dense": ConvDense,
    "dense": Dense,
    "gan": Gan,
    "lab_cnn": LabCnn,
    "palette_cnn": PaletteCnn,
    "superres_cnn": SuperresCnn,
    "unet": create_unet,
}


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(_REGISTRY)


def create_model(name: str, **args: Any) -> ColorModel:
    """A freshly initialized network.

    Args:
        name: one of `list_models()`.
        args: arguments of its class, as a checkpoint's metadata or a training configuration holds them.

    Raises:
        UsageError: an unknown name, or an argument that the network does not take.
    """
    if name not in _REGISTRY:
        raise UsageError(f"unknown model {name!r}{nearest(name, list_models())}")
    try:
        return _REGISTRY[name](**args)
    except TypeError as error:
        raise UsageError(f"model {name!r}: {error}") from error
