"""`colorize export`: converts a model to an ONNX file or to a checkpoint."""

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

TOLERANCE = 0.05  # Lab units between torch and ONNX Runtime, because of rounding
_NAMES = ("L", "ab", "mask")  # of the inputs; the last two only if the network takes hints
_OUTPUT = "color"
_OPSET = 18
_SIDE = 64  # minimum side of the example input for tracing, in pixels


class ExportError(RuntimeError):
    """The ONNX file's output differs from the network's."""


def export(name: str, output: str) -> str:
    """Exports the model `name` to `output`, by its suffix; returns a description.

    `.safetensors` is a checkpoint. `.onnx` maps L* in [0, 100] `(batch, 1, rows, columns)` to `color`, ab in Lab units;
    for a network that takes hints it has the inputs `ab` and `mask` of the same size, too. Rows and columns must be
    multiples of the network's stride, because the graph does not pad.

    Raises:
        UsageError: unknown model or suffix, or ONNX's packages are not installed.
        ExportError: the ONNX file's output differs from the network's.
    """
    target = Path(output)
    if target.suffix not in (".onnx", ".safetensors") or "://" in output:
        raise UsageError(f"--output {output}: give a local file that ends in .onnx or .safetensors")
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
    """The network as ONNX with dynamic axes."""
    example = _inputs(model, 2)
    names, free = _NAMES[: len(example)], _free_axes(model)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The old exporter warns that it is deprecated; the new one takes minutes instead of seconds. Tracing may turn
        # sizes into constants, so `difference` tests the file with another size.
        warnings.simplefilter("ignore")
        export: Any = torch.onnx.export  # its annotation only allows paths
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
    """The maximum difference between torch and ONNX Runtime for an image of another size, in Lab units.

    Raises:
        ExportError: it exceeds TOLERANCE.
    """
    import onnxruntime

    given = _inputs(model, 1, larger=not _is_fixed(model))
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {name: x.numpy() for name, x in zip(_NAMES, given, strict=False)})
    with torch.inference_mode():
        apart = float(np.abs(theirs - model(*given).numpy()).max())
    if not apart <= TOLERANCE:
        raise ExportError(f"the ONNX file differs from torch by {apart:.3g} Lab units; at most {TOLERANCE} is rounding")
    return apart


def _inputs(model: ColorModel, batch: int, larger: bool = False) -> list[Tensor]:
    """Random lightness, and hints if the network takes them."""
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
    """The dynamic axes of an input, whose sizes are multiples of the network's stride."""
    return {0: "batch"} if _is_fixed(model) else {0: "batch", 2: "rows", 3: "columns"}


def _require_packages() -> None:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise UsageError(f"ONNX files need the package {error.name}: pip install 'colorize[export]'") from None
    del onnx
