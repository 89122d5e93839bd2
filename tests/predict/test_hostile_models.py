"""Malicious models: files of a few bytes that would take gigabytes, during or after loading."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from colorize.errors import UsageError
from colorize.models import create_model
from colorize.models.checkpoint import CheckpointError, dump_checkpoint, load_published
from colorize.predict.model_files import find_model
from colorize.train.run_folder import load_state_bytes
from colorize.weights.plain import NotPlainError, require_plain


def saved(state: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(pickle: bytes, compression: int = zipfile.ZIP_STORED, name: str = "w/data.pkl") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, pickle)
        archive.writestr("w/version", "3\n")
    return file.getvalue()


def call_of(module: str, name: str, argument: bytes) -> bytes:
    """A pickle that calls a global with one argument."""
    return f"\x80\x02c{module}\n{name}\n".encode("latin-1") + argument + b"\x85R."


def compressed(data: bytes) -> bytes:
    """The same archive in a layout that no version of torch writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


BILLION = b"J\0\0\0\x3b"  # as a pickle's four-byte integer
BOMBS: dict[str, Callable[[], bytes]] = {
    "bytes by their number": lambda: zipped(call_of("builtins", "bytearray", BILLION)),
    "under its old name": lambda: zipped(call_of("__builtin__", "bytearray", BILLION)),
    "in a second pickle": lambda: zipped(call_of("builtins", "bytearray", BILLION), name="w/x/data.pkl"),
    "before zip": lambda: call_of("builtins", "bytearray", BILLION),
    "doubled text": lambda: zipped(call_of("_codecs", "encode", b"X\1\0\0\0a")),
    "a tensor without bytes": lambda: saved({"w": torch.empty(1 << 40, device="meta")}),
    "a compressed archive": lambda: compressed(saved({"w": torch.zeros(1 << 20)})),
    "code": lambda: zipped(call_of("os", "system", b"X\1\0\0\0a")),
    "a pickle of a newer kind": lambda: zipped(b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93" + BILLION + b"\x85R."),
    "a damaged archive": lambda: saved({"w": torch.zeros(3)})[:-30],
    "a damaged pickle": lambda: saved({"w": torch.zeros(3)}, legacy=True)[:60],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_expanding_structures_are_not_built(bomb: str, tmp_path: Path) -> None:
    data = BOMBS[bomb]()
    with pytest.raises(NotPlainError):
        require_plain(data)
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(UsageError, match=r"the siggraph17 weights: the file (is|holds)") as caught:
        find_model(f"siggraph17={tmp_path}/w.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"the file (is|holds)"):
        load_published("siggraph17", data)
    with pytest.raises(UsageError, match=r"state\.pt (is|holds)"):
        load_state_bytes(data)


def test_weights_with_non_string_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match="is not a state dict"):
        load_published("siggraph17", {1: torch.zeros(1), "a": torch.zeros(1)})  # type: ignore[dict-item]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "state",
    [
        {"params": OrderedDict(w=torch.zeros(2, 3), n=torch.tensor(7))},
        {"w": torch.nn.Parameter(torch.zeros(3)), "epoch": 3, "kinds": {"a", "b"}, "loss": [0.5, None, "x"]},
        {"half": torch.zeros(2).half(), "b": torch.zeros(2).bfloat16(), "is": torch.tensor(True), "d": torch.float16},
        torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict(),
    ],
    ids=["params", "beside", "types", "module"],
)
def test_valid_weights_are_accepted(state: object, legacy: bool) -> None:
    data = saved(state, legacy=legacy)
    require_plain(data)
    assert torch.load(io.BytesIO(data), weights_only=True).keys()


def checkpoint(path: Path, **args: object) -> str:
    """A small network's checkpoint, whose metadata has these arguments in addition."""
    network = create_model("lab_cnn", widths=[2, 2, 2])
    path.write_bytes(dump_checkpoint(network, name="lab_cnn", args={"widths": [2, 2, 2], **args}))
    return str(path)


@pytest.mark.parametrize("canvas", [20_000, 10**30, 1e30, 0, -5, "128", [32], True])
def test_a_checkpoint_cannot_choose_the_memory_of_an_image(canvas: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it requires canvas=.* pixels; 1 to 1024 are supported"):
        find_model(checkpoint(tmp_path / "a.safetensors", canvas=canvas))


@pytest.mark.parametrize("canvas", [32, 1024, None])
def test_the_canvas_of_a_network_is_kept(canvas: int | None, tmp_path: Path) -> None:
    assert find_model(checkpoint(tmp_path / "a.safetensors", canvas=canvas)).canvas == canvas


def test_long_text_in_a_checkpoint_is_shortened(tmp_path: Path) -> None:
    network = create_model("lab_cnn", widths=[2, 2, 2])
    for name, args in (("n" * 3_000_000, {}), ("lab_cnn", {"a": "y" * 3_000_000})):
        (tmp_path / "a.safetensors").write_bytes(dump_checkpoint(network, name=name, args=args))
        with pytest.raises(UsageError) as caught:
            find_model(str(tmp_path / "a.safetensors"))
        assert len(str(caught.value)) < 2000
