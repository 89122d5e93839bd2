"""Checks weights files before `torch.load`: only tensors and plain containers, no larger in memory than on disk.

`weights_only` blocks code, but not decompression bombs: it allows `bytearray` of any size, `_codecs.encode`, which
doubles its input, tensors without storage, and compressed zip archives, which `torch.save` never writes.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from typing import Any

ZIP = b"PK"
PICKLE = b"\x80"  # as torch wrote until 2020
PICKLE_BYTES = 8 << 20  # limit for the pickles in a file; a thousand tensors need 0.2 MB
LEGACY_PICKLES = 5  # before the tensor data

# The globals that state dicts need, as in a pickle.
_PLAIN = re.compile(
    r"collections (OrderedDict|Counter)|builtins (set|complex)|__builtin__ (set|complex)"
    r"|torch._utils _rebuild_(tensor|tensor_v2|parameter)|torch.nn.parameter Parameter|torch.serialization _get_layout"
    r"|torch(.cuda)? [A-Z][A-Za-z0-9]*Storage|torch (Size|device|bool|b?float[0-9]+|u?int[0-9]+|complex[0-9]+)"
)


class NotPlainError(ValueError):
    """A weights file holds something else, or would expand in memory."""


def require_plain(data: bytes) -> None:
    """Checks a file written by `torch.save` without unpickling it. Other kinds of files pass.

    Raises:
        NotPlainError: more than weights, compressed, or damaged.
    """
    try:
        if data.startswith(ZIP):
            _check_zip(data)
        elif data.startswith(PICKLE):
            file = io.BytesIO(data[:PICKLE_BYTES])
            for _ in range(LEGACY_PICKLES):
                _check_pickle(file)
    except NotPlainError:
        raise
    except Exception as error:  # parsers of damaged files raise many classes
        raise NotPlainError(f"holds more than weights, or is damaged ({type(error).__name__})") from None


def load_plain(data: bytes) -> Any:
    """Loads a file written by `torch.save` onto the CPU. The only call of `torch.load` for files from outside.

    Raises:
        NotPlainError: as `require_plain`, before anything is loaded.
        RuntimeError, EOFError, LookupError, AttributeError, TypeError, pickle.UnpicklingError: torch's own.
    """
    import torch  # slow, and not needed for `require_plain`

    require_plain(data)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_zip(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise NotPlainError("is compressed, unlike files of torch.save: decompress it and save it again")
        if sum(member.file_size for member in members) > len(data):
            raise NotPlainError(f"holds more than its {len(data):,} bytes")
        for member in members:
            if member.filename.endswith(".pkl"):
                if member.file_size > PICKLE_BYTES:
                    raise NotPlainError(f"has {member.file_size:,} bytes besides its tensors; at most {PICKLE_BYTES:,}")
                _check_pickle(io.BytesIO(archive.read(member)))


def _check_pickle(file: io.BytesIO) -> None:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise NotPlainError(f"holds more than weights ({opcode.name})")
        if opcode.name == "GLOBAL" and not _PLAIN.fullmatch(str(argument)):
            raise NotPlainError(f"holds more than weights ({str(argument)[:80].replace(' ', '.')})")
