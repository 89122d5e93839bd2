"""Settings of the network and of the copies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from colorize.imaging.settings import LimitSettings
from colorize.settings import Device, Settings

DEFAULT_MODEL = "default"
RENDERING = 4  # incremented when outputs change for equal settings and models, as with the network's rounding


class ColorizerSettings(Settings):
    """Settings of the network and its input."""

    size: int = Field(
        192,
        ge=32,
        le=1024,
        description="the network's input has about size x size pixels, with the image's aspect ratio; ignored by "
        "networks with a fixed input size",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of the network; auto: float32 in ONNX Runtime for the shipped architecture on CPUs, "
        "otherwise bfloat16 if the hardware supports it",
    )
    temperature: float | None = Field(
        None,
        ge=0.05,
        le=4,
        description="for networks with color bins: 1 is the mean of the distribution, lower is bolder; null: the "
        "model's own",
    )
    saturation: float = Field(
        1.0, ge=0, le=3, description="factor for the chroma: below 1 paler, above 1 more vivid and less accurate"
    )


class CopySettings(Settings):
    """Settings of the colored copies."""

    subsampling: Literal["4:2:0", "4:4:4"] = Field("4:2:0", description="chroma subsampling of JPEGs")
    pages: Literal["all", "first"] = Field(
        "all", description="pages of a TIFF: all, each colored or copied according to its own triage, or only the first"
    )
    processing: Literal["ours", "upstream"] = Field(
        "ours", description="upstream: the pre- and postprocessing of a published network's authors"
    )
    digital_source_type: Literal[
        "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia",
        "compositeSynthetic", "algorithmicMedia",
    ] = Field(
        "algorithmicallyEnhanced", description="digital source type in the XMP, an IPTC NewsCodes term"
    )  # fmt: skip

    @field_validator("subsampling", mode="before")
    @classmethod
    def _not_a_number(cls, value: object) -> object:
        """YAML 1.1 parses an unquoted 4:2:0 as a base-60 number."""
        sexagesimal = {4 * 3600 + 2 * 60: "4:2:0", 4 * 3600 + 4 * 60 + 4: "4:4:4"}
        return sexagesimal.get(value, value) if isinstance(value, int) else value


class ColorSettings(Settings):
    """Settings that affect the colored copy of one image."""

    limits: LimitSettings = LimitSettings()
    colorizer: ColorizerSettings = ColorizerSettings()
    output: CopySettings = CopySettings()


class PhotoSettings(ColorSettings):
    """All settings of `colorize photo` except its sources, output and model."""

    device: Device = "auto"


class LimitedSettings(Settings):
    """Settings of commands that only decode images."""

    limits: LimitSettings = LimitSettings()
