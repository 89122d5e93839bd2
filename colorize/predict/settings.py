"""What the network sees, and how its color is written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from colorize.imaging.settings import LimitSettings
from colorize.settings import Device, Settings

DEFAULT_MODEL = "default"
RENDERING = 3  # raised where equal settings and models give other bytes: ONNX Runtime; luma coded again by other tables


class ColorizerSettings(Settings):
    """What the network sees, and how it runs."""

    size: int = Field(
        192,
        ge=32,
        le=1024,
        description="the network sees about size x size pixels, aspect kept; one made for another size sees that",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of the network; auto is float32 in ONNX Runtime on a CPU for the shipped architecture, "
        "else bfloat16 on hardware that has it",
    )
    temperature: float | None = Field(
        None,
        ge=0.05,
        le=4,
        description="of networks with color bins: 1 is the mean of the likely, lower is bolder; None: the model's own",
    )
    saturation: float = Field(
        1.0, ge=0, le=3, description="factor of the colors' strength: below 1 paler, above 1 more vivid and less right"
    )


class CopySettings(Settings):
    """How a colored copy is made."""

    subsampling: Literal["4:2:0", "4:4:4"] = Field(
        "4:2:0", description="resolution of a JPEG's color: half of the image's each way, or all of it"
    )
    pages: Literal["all", "first"] = Field(
        "all", description="of a TIFF: color each page, or copy it by its own triage; or write the first page alone"
    )
    processing: Literal["ours", "upstream"] = Field(
        "ours", description="upstream: a published network sees and gives images as its authors' programs have it"
    )
    digital_source_type: Literal[
        "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia",
        "compositeSynthetic", "algorithmicMedia",
    ] = Field(
        "algorithmicallyEnhanced", description="what the XMP calls the copy, a term of the IPTC's NewsCodes"
    )  # fmt: skip

    @field_validator("subsampling", mode="before")
    @classmethod
    def _not_a_number(cls, value: object) -> object:
        """YAML 1.1 takes an unquoted 4:2:0 for a number in base 60."""
        sexagesimal = {4 * 3600 + 2 * 60: "4:2:0", 4 * 3600 + 4 * 60 + 4: "4:4:4"}
        return sexagesimal.get(value, value) if isinstance(value, int) else value


class ColorSettings(Settings):
    """What decides how the colored copy of one image comes out."""

    limits: LimitSettings = LimitSettings()
    colorizer: ColorizerSettings = ColorizerSettings()
    output: CopySettings = CopySettings()


class PhotoSettings(ColorSettings):
    """Everything that `colorize photo` can be told beside its sources, its output and its model."""

    device: Device = "auto"


class LimitedSettings(Settings):
    """What commands can be told that decode images and do nothing else that could be set."""

    limits: LimitSettings = LimitSettings()
