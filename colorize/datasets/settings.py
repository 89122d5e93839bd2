"""Settings of input sources."""

from __future__ import annotations

from pydantic import Field

from colorize.settings import Settings


class SourceSettings(Settings):
    """How inputs are found and read."""

    image_column: str = Field("image", description="Parquet column with encoded bytes or a {bytes, path} struct")
    include: tuple[str, ...] = Field((), description="glob patterns; files and archives that match none are skipped")
    exclude: tuple[str, ...] = Field((), description="glob patterns; files and archives that match one are skipped")
    follow_links: bool = Field(False, description="follow links that lead out of the input; otherwise they fail")
    rows_per_task: int = Field(0, ge=0, le=4096, description="images per task; 0: 16 to 512, by number, size and CPUs")
    fetch_threads: int = Field(16, ge=1, le=256, description="concurrent reads within one load task")
    inline_bytes: int = Field(
        16 << 20,
        ge=0,
        description="larger files are read again by the writer instead of traveling between stages, as local ones are",
    )
