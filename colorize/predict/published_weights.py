"""Published weights: their names, sources, caches and hashes.

DDColor's are on a hub and in its client's cache (`HF_HOME`), those of eccv16 and siggraph17 in the authors' bucket and
in torch.hub's cache (`TORCH_HOME`), which the authors' own program uses, too.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from colorize.errors import UsageError
from colorize.storage.local_root import LocalRoot
from colorize.weights.mistaken import PREFIX_BYTES, mistaken_for_weights

DDCOLOR = "piddnad/DDColor-models"
BUCKET = "https://colorizers.s3.us-east-2.amazonaws.com"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One published file of weights."""

    name: str  # for `--model`
    architecture: str  # registry name of its network
    file: str
    license: str
    repository: str = ""  # on the hub; "" for a file in the bucket
    sha256: str = ""  # the hash or a prefix of it, if published by the authors

    @property
    def source(self) -> str:
        """The download URL, at the authors' server or at a mirror set in the environment."""
        if not self.repository:
            return f"{os.environ.get('COLORIZERS_ENDPOINT', BUCKET).rstrip('/')}/{self.file}"
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, self.file)

    def cached(self) -> Path | None:
        """The cached copy, if there is one, not verified."""
        if not self.repository:
            path = Path(bucket_cache().path, self.file)
            return path if path.is_file() else None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file)
        return Path(found) if isinstance(found, str) else None


def _ddcolor(name: str, architecture: str = "ddcolor_large") -> PublishedWeights:
    return PublishedWeights(name, architecture, f"{name}.pth", "Apache-2.0", DDCOLOR)


PUBLISHED = {
    weights.name: weights
    for weights in (
        _ddcolor("ddcolor_modelscope"),
        _ddcolor("ddcolor_artistic"),
        _ddcolor("ddcolor_paper"),
        _ddcolor("ddcolor_paper_tiny", "ddcolor_tiny"),
        PublishedWeights(
            "eccv16", "eccv16", "colorization_release_v2-9b330a0b.pth", "BSD-2-Clause",
            sha256="9b330a0bae53f4ded77b1e23defbf78beaa09c10ebc4c4999e8e4f4a160b93f9",
        ),
        PublishedWeights("siggraph17", "siggraph17", "siggraph17-df00044c.pth", "BSD-2-Clause", sha256="df00044c"),
    )
}  # fmt: skip


def bucket_cache() -> LocalRoot:
    """The cache for files of the bucket, the same as that of the authors' own program."""
    from torch.hub import get_dir

    return LocalRoot(f"{get_dir()}/checkpoints")


def cached_weights(name: str) -> Path:
    """The verified cached copy of published weights.

    Raises:
        UsageError: there is none, or it is not the published file.
    """
    weights = PUBLISHED[name]
    path = weights.cached()
    if path is None:
        raise UsageError(
            f"the weights {name!r} are not on this machine: run `colorize models download {name}`, or give a file, "
            f"{weights.architecture}=FILE"
        )
    try:
        verify_weights(weights, path)
    except UsageError as error:
        raise UsageError(f"{error}; download them again with `colorize models download {name}`") from None
    return path


def verify_weights(weights: PublishedWeights, path: Path, where: str = "") -> str:
    """The SHA-256 of a copy, verified with all known hashes: the authors', the hub's, and that of the first download.

    Args:
        weights: the published weights.
        path: the copy.
        where: source for error messages; default: `path`.

    Raises:
        UsageError: the copy is not the published file.
    """
    with path.open("rb") as file:
        wrong = mistaken_for_weights(file.read(PREFIX_BYTES))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    where = f"{weights.name}: {where or path}"
    if wrong:
        raise UsageError(f"{where} is {wrong}")
    blob = path.resolve().name if weights.repository else ""
    expected = {
        "its authors published": weights.sha256,
        "the server reported": blob if _SHA256.fullmatch(blob) else "",
        f"the first download had (see {_pins().path}/{weights.name}.sha256: remove that file if the authors have "
        "replaced the weights)": _pinned(weights),
    }
    for who, hash_ in expected.items():
        if not digest.startswith(hash_):
            raise UsageError(f"{where} has the SHA-256 {digest[:16]}..., not {hash_[:16]}, which {who}")
    return digest


def pin(weights: PublishedWeights, digest: str) -> None:
    """Stores the hash of the first download, to verify later copies."""
    if not _pinned(weights):
        with _pins().build(f"{weights.name}.sha256") as file:
            file.write(f"{digest}\n".encode())


def _pinned(weights: PublishedWeights) -> str:
    with suppress(FileNotFoundError, NotADirectoryError):
        return Path(_pins().path, f"{weights.name}.sha256").read_text(encoding="ascii").strip()
    return ""


def _pins() -> LocalRoot:
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return LocalRoot(f"{home}/colorize/weights")
