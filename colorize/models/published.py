"""Networks with published weights: the layout of their files, and old spectral norms."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from colorize.models.base import ColorModel

_TRIPLE = "_orig", "_u", "_v"


class PublishedModel(ColorModel):
    """A network that loads its authors' weights. Its layers have the authors' names; subclasses list exceptions."""

    def published_shapes(self) -> dict[str, torch.Size]:
        """Keys and shapes of the authors' file, with spectral norms folded."""
        return {key: value.shape for key, value in self.state_dict().items()}

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights under our keys; `state` has the keys and shapes of `published_shapes`."""
        return {key: state[key] for key in self.state_dict()}


def stored_shapes(shapes: Mapping[str, torch.Size], keys: Container[str]) -> dict[str, torch.Size]:
    """The expected shapes of a file with these `keys`, which may contain unfolded spectral norms."""
    stored: dict[str, torch.Size] = {}
    for key, shape in shapes.items():
        if any(key + suffix in keys for suffix in _TRIPLE):
            triple = shape, shape[:1], torch.Size((shape[1:].numel(),))
            stored |= {key + suffix: part for suffix, part in zip(_TRIPLE, triple, strict=True)}
        else:
            stored[key] = shape
    return stored


def fold_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replaces each (`weight_orig`, `weight_u`, `weight_v`) of torch's old spectral norm by one `weight`.

    The layer uses W / (u . W v), where W is `weight_orig` as a matrix (outputs, rest).
    """
    folded = dict(state)
    for key in [key.removesuffix("_orig") for key in state if key.endswith("weight_orig")]:
        original, u, v = (folded.pop(key + suffix).float() for suffix in _TRIPLE)
        folded[key] = original / torch.dot(u, original.flatten(1).mv(v))
    return folded


def padded_to_stride(network: Callable[[Tensor], Tensor], stride: int, x_BCHW: Tensor) -> Tensor:
    """Applies a size-preserving `network` to any size, by replicating the edge up to multiples of `stride`."""
    height, width = x_BCHW.shape[2:]
    missing = (0, -width % stride, 0, -height % stride)
    if not any(missing):
        return network(x_BCHW)
    return network(F.pad(x_BCHW, missing, mode="replicate"))[:, :, :height, :width]
