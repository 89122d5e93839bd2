"""FID and LPIPS as published, for users who supply the networks' weights.

Inception comes from torch-fidelity, a port of FID's TensorFlow graph; LPIPS and its linear weights come from the
authors' package. Neither contains the weights of its trunk.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.evaluate.settings import MeasureSettings
from colorize.weights.plain import load_plain

EXTRA = "install colorize[judges]"
POOLED = "2048"  # Inception's pooled features, which FID compares


@dataclass(frozen=True, slots=True)
class Weights:
    """A supplied weights file: the tensors used, as safetensors, and its identity."""

    path: str
    sha256: str
    tensors: bytes


@dataclass(frozen=True, slots=True)
class Supplied:
    """The supplied weights, if any."""

    inception: Weights | None = None
    alexnet: Weights | None = None

    def identities(self) -> dict[str, dict[str, str]]:
        """Path and hash of each file, by metric."""
        named = {"fid": self.inception, "lpips": self.alexnet}
        return {metric: {"path": w.path, "sha256": w.sha256} for metric, w in named.items() if w}


def read_supplied(settings: MeasureSettings) -> Supplied:
    """Reads the weights that the settings name, and builds their networks once as a check.

    Raises:
        UsageError: unreadable or wrong file, or missing package.
    """
    supplied = Supplied(
        _read("fid_weights", settings.fid_weights, ""), _read("lpips_weights", settings.lpips_weights, "features.")
    )
    for name, weights, network in (("fid", supplied.inception, Inception), ("lpips", supplied.alexnet, Lpips)):
        if weights:
            _try(name, weights, network)
    return supplied


class Inception(nn.Module):
    """FID's Inception, in eval mode."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # It unpickles its input, so it gets a fresh pickle of tensors only.
        tensors = io.BytesIO()
        torch.save(load(weights.tensors), tensors)
        tensors.seek(0)
        self.network = FeatureExtractorInceptionV3("inception", [POOLED], feature_extractor_weights_path=tensors)

    @torch.inference_mode()
    def forward(self, rgb_B3HW: Tensor) -> Tensor:
        """sRGB in [0, 1] -> `(B, 2048)`."""
        features: tuple[Tensor, ...] = self.network((rgb_B3HW * 255).round().to(torch.uint8))
        return features[0]


class Lpips(nn.Module):
    """LPIPS 0.1 on AlexNet, in eval mode."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        import lpips

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # deprecated arguments of torchvision
            self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        tensors = load(weights.tensors)
        trunk = self.network.net
        trunk.load_state_dict({key: tensors[f"features.{key.partition('.')[2]}"] for key in trunk.state_dict()})

    @torch.inference_mode()
    def forward(self, predicted_B3HW: Tensor, true_B3HW: Tensor) -> Tensor:
        """Distances `(B,)` between two batches, sRGB in [0, 1]."""
        distances: Tensor = self.network(predicted_B3HW, true_B3HW, normalize=True)
        return distances.flatten()


def _read(setting: str, path: str | None, prefix: str) -> Weights | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
        state = load_plain(data)
        tensors = {key: value for key, value in _tensors(state).items() if key.startswith(prefix)}
        if sum(tensor.nbytes for tensor in tensors.values()) > len(data):
            raise ValueError("tensors that share their bytes")
    except OSError as error:
        raise UsageError(f"measure.{setting}={path} cannot be read: {error.strerror or error}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError):
        raise UsageError(f"measure.{setting}={path} is not a weights file written by torch.save") from None
    tensors = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    return Weights(path, hashlib.sha256(data).hexdigest(), save(tensors))


def _tensors(state: Any) -> dict[str, Tensor]:
    found = state.items() if isinstance(state, dict) else ()
    return {key: value for key, value in found if isinstance(key, str) and isinstance(value, Tensor)}


def _try(name: str, weights: Weights, network: type[Inception] | type[Lpips]) -> None:
    try:
        network(weights)
    except ModuleNotFoundError as error:
        raise UsageError(f"measure.{name}_weights needs the package {error.name}: {EXTRA}") from None
    except (KeyError, RuntimeError):
        wanted = "Inception as FID uses it (pt_inception-2015-12-05)" if name == "fid" else "torchvision's AlexNet"
        raise UsageError(f"measure.{name}_weights={weights.path} are not the weights of {wanted}") from None
