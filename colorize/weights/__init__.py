"""The models that come with the package."""

from __future__ import annotations

from pathlib import Path


def shipped_weights() -> dict[str, Path]:
    """Names of the models that come with the package, and their files."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.safetensors"))}
