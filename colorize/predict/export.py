"""`colorize export`: a model as an ONNX file, for programs that know nothing of torch, or as a checkpoint of ours."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorize.errors import UsageError
from colorize.models import ColorModel
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.storage.root import Storage

TOLERANCE = 0.05  # Lab units between torch and ONNX Runtime, which add up in another order
_NAMES = ("L", "ab", "mask")  # of the inputs; those of hints where the network takes them
_OUTPUT = "color"
_OPSET = 18
_SIDE = 64  # pixels of the example that is traced, at least


class ExportError(RuntimeError):
    """A network whose ONNX file does not compute what it does."""


def export(name: str, output: str) -> str:
    """Writes the model that a user calls `name` to `output`, by its suffix; returns a word about it.

    `.safetensors`: a checkpoint. `.onnx`: L* in [0, 100] `(batch, 1, rows, columns)`, and for a network that takes
    hints `ab` and `mask` of that size, to `color`, ab in Lab units. Rows
    and columns are as free as the network is, but multiples of its stride: nothing is padded.

    Raises:
        UsageError: an unknown model or suffix, or ONNX's packages are not installed.
        ExportError: the file computes something else than the network.
    """
    target = Path(output)
    if target.suffix not in (".onnx", ".safetensors") or "://" in output:
        raise UsageError(f"--output {output}: name a local file that ends in .onnx or .safetensors")
    found = find_model(name)
    data, word = found.data, f"a checkpoint of {found.architecture}"
    if target.suffix == ".onnx":
        _require_packages()
        model = load_checkpoint(found.data).model
        data = to_onnx(model)
        word = f"{found.architecture}, within {difference(model, data):.1g} Lab units of torch"
    Storage(target.parent).write(target.name, data)
    return word


def to_onnx(model: ColorModel) -> bytes:
    """The network as ONNX, for any batch, and any sides that it takes."""
    example = _inputs(model, 2)
    names, free = _NAMES[: len(example)], _free_axes(model)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Torch would rather have its newer exporter used, which takes minutes of a CPU where this takes seconds. What
        # tracing may take for a constant by mistake shows when the file computes another size: see `difference`.
        warnings.simplefilter("ignore")
        export: Any = torch.onnx.export  # its annotation knows paths only
        export(
            model,
            tuple(example),
            file,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(names),
            output_names=[_OUTPUT],
            dynamic_axes=dict.fromkeys((*names, _OUTPUT), free),
        )
    return file.getvalue()


def difference(model: ColorModel, onnx_file: bytes) -> float:
    """The largest difference between torch and ONNX Runtime for an image of another size, Lab units.

    Raises:
        ExportError: it is more than rounding.
    """
    import onnxruntime

    given = _inputs(model, 1, larger=not _is_fixed(model))
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {name: x.numpy() for name, x in zip(_NAMES, given, strict=False)})
    with torch.inference_mode():
        apart = float(np.abs(theirs - model(*given).numpy()).max())
    if not apart <= TOLERANCE:
        raise ExportError(f"the ONNX file is {apart:.3g} Lab units away from torch; only {TOLERANCE} may be rounding")
    return apart


def _inputs(model: ColorModel, batch: int, larger: bool = False) -> list[Tensor]:
    """Lightness, and hints where the network takes them."""
    side = model.canvas or model.stride * -(-_SIDE // model.stride)
    rows, columns = (side + model.stride, side + 3 * model.stride) if larger else (side, side)
    generator = torch.Generator().manual_seed(0)
    L_B1HW = torch.rand(batch, 1, rows, columns, generator=generator) * 100
    if not model.takes_hints:
        return [L_B1HW]
    ab_B2HW = torch.rand(batch, 2, rows, columns, generator=generator) * 100 - 50
    return [L_B1HW, ab_B2HW, (L_B1HW > 90).float()]


def _is_fixed(model: ColorModel) -> bool:
    return model.stride == model.canvas


def _free_axes(model: ColorModel) -> dict[int, str]:
    """Which axes of an input may have any size: a multiple of the network's stride."""
    return {0: "batch"} if _is_fixed(model) else {0: "batch", 2: "rows", 3: "columns"}


def _require_packages() -> None:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise UsageError(f"ONNX files need the package {error.name}: pip install 'colorize[export]'") from None
    del onnx
