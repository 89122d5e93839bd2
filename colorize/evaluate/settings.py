"""What `colorize evaluate` can be told beside its models, data and output."""

from __future__ import annotations

from pydantic import Field

from colorize.cluster.settings import PoolSettings
from colorize.datasets.settings import SourceSettings
from colorize.datasets.splits import SplitSettings
from colorize.imaging.settings import LimitSettings
from colorize.predict.settings import ColorizerSettings
from colorize.settings import Settings


class ImageSourceSettings(Settings):
    """How the color images are found and read."""

    image_column: str = Field("image", description="Parquet column with encoded bytes or a {bytes, path} struct")
    include: tuple[str, ...] = Field((), description="glob patterns; files that match none are left out")
    follow_links: bool = Field(False, description="read links that lead out of the input, too; else they fail")
    rows_per_task: int = Field(16, ge=1, le=4096, description="images that one load task fetches and decodes")
    fetch_threads: int = Field(16, ge=1, le=256, description="concurrent reads within one load task")

    def as_source(self) -> SourceSettings:
        """The same for `open_source`."""
        return SourceSettings(**self.model_dump())


class MeasureSettings(Settings):
    """What is measured, and how certain the figures shall be."""

    size: int = Field(256, ge=32, le=1024, description="side of the square center crop that is measured")
    full_size: bool = Field(True, description="measure the PSNR of whole images too, written as the bulk job does")
    features: bool = Field(True, description="figures that need the package of extra `pretrained`, if it is there")
    fid_weights: str | None = Field(None, description="Inception's weights as published for FID: measures FID")
    lpips_weights: str | None = Field(None, description="torchvision's AlexNet weights: measures LPIPS")
    resamples: int = Field(2000, ge=100, le=100_000, description="bootstrap draws behind each interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the intervals")
    seed: int = Field(0, ge=0, description="of the bootstrap, and of which images --limit picks")
    gallery: int = Field(3, ge=1, le=12, description="images shown of each kind: best, median, worst")


class EvaluationRunSettings(Settings):
    """How the job itself behaves."""

    tolerate_failures: float = Field(0.0, ge=0, le=1, description="fraction of images that may be broken with exit 0")
    start_seconds: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="how long to wait for the CPUs and GPUs that the plan needs"
    )
    stall_seconds: float = Field(300.0, gt=0, description="give up after so long without one finished task")
    log_seconds: float = Field(5.0, gt=0, description="interval of the progress lines in the log")


class EvaluateSettings(Settings):
    """Everything that can be set."""

    source: ImageSourceSettings = ImageSourceSettings()
    limits: LimitSettings = LimitSettings()
    split: SplitSettings | None = Field(
        None, description="a training's data.split, to measure on what that held out; None goes by what the data says"
    )
    colorizer: ColorizerSettings = ColorizerSettings()
    pool: PoolSettings = PoolSettings()
    measure: MeasureSettings = MeasureSettings()
    run: EvaluationRunSettings = EvaluationRunSettings()
