"""Writes configs/*/default.yaml from the code: every setting of a job with its default and description.

python -m scripts.default_configs
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from colorize.bulk.settings import BulkSettings
from colorize.evaluate.settings import EvaluateSettings
from colorize.settings import Settings

CONFIGS = Path(__file__).parent.parent / "configs"
FILES: dict[str, tuple[str, type[Settings]]] = {
    "bulk/default.yaml": ("colorize bulk", BulkSettings),
    "evaluate/default.yaml": ("colorize evaluate", EvaluateSettings),
}
WIDTH = 120


def documented(command: str, settings: type[Settings]) -> str:
    """The settings' defaults as YAML, each below a comment with its description."""
    head = f"# Every setting of `{command}` with its default, written by scripts/default_configs.py.\n"
    return (
        head
        + "# Copy what you change; `--set group.key=value` wins over a file.\n"
        + "\n".join(_lines(settings()))
        + "\n"
    )


def _lines(settings: Settings, indent: str = "") -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if field.description:
            yield from (f"{indent}# {line}" for line in wrap(field.description, WIDTH - len(indent) - 2))
        if isinstance(value, Settings):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_inline(settings.model_dump(mode='json')[name])}"


def _inline(value: Any) -> str:
    """One value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix("...\n").strip()


def main() -> None:
    for name, (command, settings) in FILES.items():
        (CONFIGS / name).write_text(documented(command, settings), encoding="utf-8")


if __name__ == "__main__":
    main()
