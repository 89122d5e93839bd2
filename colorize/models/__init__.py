"""The networks and their registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from colorize.errors import UsageError
from colorize.models.base import BinModel, ColorModel, RgbModel
from colorize.models.ddcolor import DdcolorLarge, DdcolorTiny
from colorize.models.dense import BnConvDense, ConvDense, Dense
from colorize.models.eccv16 import Eccv16
from colorize.models.gan import Gan
from colorize.models.lab_cnn import LabCnn
from colorize.models.palette_cnn import PaletteCnn
from colorize.models.published import PublishedModel
from colorize.models.siggraph17 import Siggraph17
from colorize.models.superres_cnn import SuperresCnn
from colorize.models.unet_heads import create_unet
from colorize.settings import nearest

__all__ = [
    "BinModel",
    "ColorModel",
    "PublishedModel",
    "RgbModel",
    "create_model",
    "list_models",
    "published_models",
    "require_takes_hints",
]

_REGISTRY: dict[str, Callable[..., ColorModel]] = {
    "bn_conv_dense": BnConvDense,
    "conv_dense": ConvDense,
    "ddcolor_large": DdcolorLarge,
    "ddcolor_tiny": DdcolorTiny,
    "dense": Dense,
    "eccv16": Eccv16,
    "gan": Gan,
    "lab_cnn": LabCnn,
    "palette_cnn": PaletteCnn,
    "siggraph17": Siggraph17,
    "superres_cnn": SuperresCnn,
    "unet": create_unet,
}


def list_models() -> list[str]:
    """The registered names, sorted."""
    return sorted(_REGISTRY)


def published_models() -> list[str]:
    """The names of networks that load their authors' published weights, sorted."""
    return sorted(name for name, network in _classes().items() if issubclass(network, PublishedModel))


def require_takes_hints(name: str) -> None:
    """Raises UsageError if the network `name` takes no color hints."""
    able = sorted(known for known, network in _classes().items() if network.takes_hints)
    if name not in able:
        raise UsageError(f"--hints: a {name} takes no color hints; choose {', '.join(able)}")


def _classes() -> dict[str, type[ColorModel]]:
    """The networks whose class does not depend on their arguments: all but `unet`."""
    return {name: network for name, network in _REGISTRY.items() if isinstance(network, type)}


def create_model(name: str, **args: Any) -> ColorModel:
    """A freshly initialized network.

    Args:
        name: one of `list_models()`.
        args: its constructor's arguments, from a checkpoint's metadata or a training configuration.

    Raises:
        UsageError: unknown name, or invalid arguments.
    """
    if name not in _REGISTRY:
        raise UsageError(f"unknown model {name!r}{nearest(name, list_models())}")
    try:
        return _REGISTRY[name](**args)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:  # for example two widths for three layers
        given = ", ".join(f"{key}={value!r}" for key, value in args.items())
        raise UsageError(f"model {name!r} with {given}: {error}") from error
