"""Settings of `colorize evaluate`."""

from __future__ import annotations

from pydantic import Field

from colorize.cluster.settings import PoolSettings
from colorize.datasets.splits import SplitSettings
from colorize.imaging.settings import LimitSettings
from colorize.predict.settings import ColorizerSettings
from colorize.settings import Settings


class ImageSourceSettings(Settings):
    """How the color images are found and read."""

    image_column: str = Field("image", description="Parquet column with encoded bytes or a {bytes, path} struct")
    include: tuple[str, ...] = Field((), description="glob patterns; files and archives that match none are skipped")
    follow_links: bool = Field(False, description="follow links that lead out of the input; otherwise they fail")


class MeasureSettings(Settings):
    """What is measured."""

    size: int = Field(256, ge=32, le=1024, description="side of the square center crop that is measured")
    full_size: bool = Field(True, description="also measure the PSNR of whole images, as written by the bulk job")
    features: bool = Field(True, description="metrics of EfficientNet-Lite0, if the extra `pretrained` is installed")
    fid_weights: str | None = Field(None, description="file of Inception weights as published for FID: enables FID")
    lpips_weights: str | None = Field(None, description="file of torchvision's AlexNet weights: enables LPIPS")
    resamples: int = Field(2000, ge=100, le=100_000, description="bootstrap resamples")
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence level of the intervals")
    seed: int = Field(0, ge=0, description="random seed of the bootstrap and of --limit")
    gallery: int = Field(3, ge=1, le=12, description="images shown of each kind: best, median, worst")


class EvaluationRunSettings(Settings):
    """How the job runs."""

    tolerate_failures: float = Field(0.0, ge=0, le=1, description="fraction of images that may fail with exit 0")
    start_seconds: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="timeout for getting the required CPUs and GPUs"
    )
    stall_seconds: float = Field(300.0, gt=0, description="abort after this time without a finished task")


class EvaluateSettings(Settings):
    """All settings of an evaluation."""

    source: ImageSourceSettings = ImageSourceSettings()
    limits: LimitSettings = LimitSettings()
    split: SplitSettings | None = Field(
        None,
        description="a training run's data.split, to evaluate on its held-out images; null: the splits of the data",
    )
    colorizer: ColorizerSettings = ColorizerSettings()
    pool: PoolSettings = PoolSettings()
    measure: MeasureSettings = MeasureSettings()
    run: EvaluationRunSettings = EvaluationRunSettings()
