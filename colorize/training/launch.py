"""From settings to a running `TorchTrainer`: datasets, workers, storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import ray
import torch
from ray.data import DataContext, Dataset
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from colorize.color import rgb_to_lab
from colorize.config import SourceSettings, UsageError
from colorize.data.readers import Reader
from colorize.data.sources import Source, open_source
from colorize.data.splits import Split, split_of, split_row
from colorize.data.storage import Storage
from colorize.image_io import whole
from colorize.inference.cluster import ray_session
from colorize.models import BinModel, create_model
from colorize.training.epoch_plan import COLUMNS, EpochPlan, plan_epoch
from colorize.training.feed import is_wanted, training_row
from colorize.training.initial import initial_network
from colorize.training.journal import follow
from colorize.training.loop import LoopConfig, train_loop
from colorize.training.losses import count_bins, shrink
from colorize.training.run_folder import RunFolder
from colorize.training.settings import TrainSettings

STATE_FOLDER = "_ray"  # below the run folder: Ray Train's own state and full checkpoints
PRIOR_PICTURES = 512  # enough to know how often each color occurs
LOAD_CPUS = 0.5


@dataclass(frozen=True)
class TrainJob:
    """What one training run is asked to do."""

    settings: TrainSettings
    data: str
    output: str
    resume: bool = False
    ray_address: str | None = None


def run_training(job: TrainJob) -> dict[str, float]:
    """Trains to the end and returns the last epoch's figures.

    Raises:
        UsageError: data, output, settings or cluster cannot be used.
        RuntimeError: training broke down (loss no number, too many broken pictures, workers that keep dying).
    """
    source = _open(job)
    initial_network(job.settings.model)  # what cannot be had is said before a cluster starts
    folder = RunFolder(job.output, job.settings, job.resume)
    with ray_session(job.ray_address):
        scaling = _scaling(job.settings)
        splits: tuple[Split, ...] = ("train", "val", "test") if job.settings.validation.test else ("train", "val")
        plan = plan_epoch(source, job.settings.data)
        datasets: dict[str, Dataset] = {split: _dataset(source, split, job.settings, plan) for split in splits}
        config = LoopConfig(job.settings, folder.storage, _prior(datasets["train"], job.settings), plan.pictures)
        with follow(folder.storage, print):
            return _fit(_trainer(job, scaling, config, datasets))


def _fit(trainer: TorchTrainer) -> dict[str, float]:
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = str(error).strip().splitlines()[-1].rpartition("TrainingFailedError: ")[2]
        raise RuntimeError(f"training stopped: {cause}") from error
    return dict(result.metrics or {})


def _open(job: TrainJob) -> Source:
    source = open_source(job.data, SourceSettings(image_column=job.settings.data.image_column))
    return source.with_columns(*COLUMNS)


def _trainer(job: TrainJob, scaling: ScalingConfig, config: LoopConfig, datasets: Mapping[str, Any]) -> TorchTrainer:
    storage = Storage(job.output)
    return TorchTrainer(
        train_loop,
        train_loop_config={"config": config},
        scaling_config=scaling,
        datasets=dict(datasets),
        dataset_config=DataConfig(datasets_to_split=["train"]),
        run_config=RunConfig(
            name=STATE_FOLDER,  # the same name and storage as before is how Ray Train resumes
            storage_path=storage.root,
            storage_filesystem=pafs.PyFileSystem(pafs.FSSpecHandler(storage.fs)),
            failure_config=FailureConfig(max_failures=job.settings.trainer.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def _scaling(settings: TrainSettings) -> ScalingConfig:
    """Workers that fit the cluster, with CPUs left for loading: a plan that cannot run is refused.

    Raises:
        UsageError: it asks for more than there is.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    workers = settings.trainer.workers
    use_gpu = gpus >= 1 and settings.trainer.device != "cpu"
    if (settings.trainer.device == "cuda" and gpus < workers) or (use_gpu and gpus < workers):
        raise UsageError(f"trainer.workers={workers} need a GPU each; the cluster has {gpus:g}: lower trainer.workers")
    free = cpus - 2 * LOAD_CPUS
    each = settings.trainer.cpus_per_worker or (1.0 if use_gpu else max(0.5, free // (2 * workers) or free / workers))
    if each * workers > free:
        raise UsageError(
            f"trainer.workers={workers} of {each:g} CPUs and loading beside them need {each * workers + 1:g} CPUs; "
            f"the cluster has {cpus:g} CPUs: lower trainer.workers or trainer.cpus_per_worker"
        )
    return ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": each, "GPU": int(use_gpu)})


def _dataset(source: Source, split: Split, settings: TrainSettings, plan: EpochPlan) -> Dataset:
    """A split as rows of `rgb` and `broken`, decoded anew (with another crop) in every epoch."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    blocks = source.blocks()
    if split == "train":
        np.random.default_rng(settings.seed).shuffle(blocks)
    shares = plan.shares if split == "train" else {}
    several = len(source.parts or ()) > 1  # else an archive's name says nothing about its split
    limits = {"train": settings.data.limit, "val": settings.validation.limit, "test": None}
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            partial(
                _fetch_split, reader=source.reader, of_several=several, split=split, settings=settings, shares=shares
            ),
            batch_size=source.units_per_batch,
            batch_format="pyarrow",
            num_cpus=LOAD_CPUS,
        )
        .limit(limits[split] or source.total)
        .map_batches(
            partial(_decode, side=settings.data.short_side, random=split == "train"),
            batch_size=64,
            batch_format="pandas",
            num_cpus=LOAD_CPUS,
        )
    )


def _fetch_split(
    units: pa.Table,
    *,
    reader: Reader,
    of_several: bool,
    split: Split,
    settings: TrainSettings,
    shares: Mapping[str, float],
) -> Iterator[pa.Table]:
    random = np.random.default_rng()
    for raws in reader.fetch(units):
        chosen = []
        for raw in raws:
            said = split_row(raw, of_several)
            wanted = not raw.skipped and is_wanted(said, settings.data)
            if wanted and split_of(said, settings.data.split) == split:
                chosen.append((raw, shares.get(str(said.get("source", "")), 1.0)))
        rows = [{"data": whole(raw.data)} for raw, share in chosen if random.random() < share]
        yield pa.Table.from_pylist(rows, schema=pa.schema([("data", pa.binary())]))


def _decode(batch: Any, *, side: int, random: bool) -> dict[str, Any]:
    positions = np.random.default_rng().random(len(batch)) if random else np.full(len(batch), 0.5)
    rows = [training_row(data, side, position) for data, position in zip(batch["data"], positions, strict=True)]
    return {"rgb": np.stack([row["rgb"] for row in rows]), "broken": np.array([row["broken"] for row in rows])}


def _prior(train: Dataset, settings: TrainSettings) -> torch.Tensor | None:
    """How often each bin occurs in a sample of the training pictures, for networks that have bins."""
    model = create_model(settings.model.name, **settings.model.args)
    if not isinstance(model, BinModel):
        return None
    counts = torch.zeros(len(model.bins_Q2))
    for batch in train.limit(PRIOR_PICTURES).iter_torch_batches(batch_size=64):
        rgb = batch["rgb"][~batch["broken"].bool()].permute(0, 3, 1, 2).float() / 255
        ab = rgb_to_lab(rgb)[:, 1:]
        counts += count_bins(shrink(ab, (ab.shape[2] // 4, ab.shape[3] // 4)), model.bins_Q2)
    return counts
