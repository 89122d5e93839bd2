"""Training on Ray: Ray Data decodes, Ray Train runs the loop on every worker, this process shows progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray
from ray.data import DataContext, Dataset, ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from colorize.cluster.session import most_resources, ray_session
from colorize.datasets.sources import Source
from colorize.datasets.splits import Split
from colorize.errors import UsageError
from colorize.train.display import Display, interruptible
from colorize.train.epoch_plan import EpochPlan, fits_in_memory, plan_epoch
from colorize.train.progress_actor import ProgressActor
from colorize.train.reading import SplitReader, open_training_source, shuffled_blocks, split_reader
from colorize.train.rows import decode, fetch
from colorize.train.run_folder import RAY_STATE, RunFolder
from colorize.train.settings import TrainerSettings, TrainSettings
from colorize.train.step import check_settings
from colorize.train.worker import WorkerConfig, train_worker

LOAD_CPUS = 0.5
DECODE_ROWS = 64
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class TrainJob:
    """The parameters of a training run."""

    settings: TrainSettings
    data: str
    output: str
    resume: bool = False
    ray_address: str | None = None
    quiet: bool = False


def run_training(job: TrainJob) -> dict[str, float]:
    """Trains to the end and returns the last epoch's metrics.

    Raises:
        UsageError: unusable data, output, settings or cluster.
        StoppedError: training diverged or was interrupted.
        RuntimeError: training failed, for example because workers kept dying.
    """
    check_settings(job.settings)  # fail before a cluster starts
    source = open_training_source(job.data, job.settings.data)
    plan = plan_epoch(source, job.settings.data)
    folder = RunFolder(job.output, job.settings)
    folder.check(job.resume)
    with ray_session(job.ray_address), Display(job.quiet) as display, interruptible(display):
        scaling = scaling_for(job.settings.trainer, ray.cluster_resources(), most_resources())
        folder.claim(job.resume)
        streams = not fits_in_memory(plan, job.settings.data, ray.cluster_resources().get("memory", 0.0))
        where = "streamed" if streams else "in memory"
        if warning := plan.warning(job.settings.model):
            display.warn(warning)
        display.log(f"reading {plan.images} images, {where}, for {scaling.num_workers} workers")
        actor = ray.remote(num_cpus=0)(ProgressActor).remote()
        config = WorkerConfig(job.settings, folder.storage, plan.images, streams, actor)
        trainer = _trainer(scaling, config, datasets_of(source, job.settings, plan, streams))
        _fit(trainer, actor, display)
    return folder.last_metrics()


def _fit(trainer: TorchTrainer, actor: Any, display: Display) -> None:
    """Runs the training in another thread, since Ray takes over Ctrl-C in its own, and shows progress."""
    pool = ThreadPoolExecutor(1)
    fitting = pool.submit(trainer.fit)
    while not fitting.done():
        wait_for([fitting], LOOK_SECONDS)
        latest, epochs = ray.get(actor.exchange.remote(display.stop_requested))
        for figures in epochs:
            display.epoch(figures)
        if latest:
            display.progress(latest)
    pool.shutdown()
    fault, reason = fitting.exception(), ray.get(actor.failure.remote())
    if reason:  # Ray's error only says that a worker failed
        raise reason from fault
    if fault:
        raise RuntimeError(f"training stopped: {str(fault).strip().splitlines()[-1]}") from fault


def _trainer(scaling: ScalingConfig, config: WorkerConfig, datasets: Mapping[str, Dataset]) -> TorchTrainer:
    storage = config.storage
    return TorchTrainer(
        train_worker,
        train_loop_config={"config": config},
        scaling_config=scaling,
        torch_config=_torch_config(scaling),
        datasets=dict(datasets),
        dataset_config=_data_config(datasets, config.settings),
        run_config=RunConfig(
            name=RAY_STATE,
            storage_path=storage.root,
            storage_filesystem=pafs.PyFileSystem(pafs.FSSpecHandler(storage.fs)),
            failure_config=FailureConfig(max_failures=config.settings.trainer.retries),
        ),
    )


def _torch_config(scaling: ScalingConfig) -> TorchConfig:
    """GPU workers also reduce CPU tensors, such as a palette's pixels, which NCCL cannot."""
    return TorchConfig(backend="cpu:gloo,cuda:nccl" if scaling.use_gpu else "gloo")


def _data_config(splits: Iterable[str], settings: TrainSettings) -> DataConfig:
    """Splits with a limit keep their order, so that the limit selects the same images in every epoch."""
    ordered = ExecutionOptions(preserve_order=True)
    limits = {"train": settings.data.limit, "val": settings.validation.limit}
    limited = [split for split in splits if limits.get(split) is not None]
    return DataConfig(datasets_to_split=["train"], execution_options=dict.fromkeys(limited, ordered))


def scaling_for(trainer: TrainerSettings, now: Mapping[str, float], most: Mapping[str, float]) -> ScalingConfig:
    """Resources of the workers, with CPUs left for loading.

    Args:
        trainer: the settings.
        now: the cluster's resources.
        most: what it can grow to; Ray Train waits for that.

    Raises:
        UsageError: the cluster cannot provide them.
    """
    cpus, gpus = (max(now.get(kind, 0.0), most.get(kind, 0.0)) for kind in ("CPU", "GPU"))
    workers = trainer.workers
    use_gpu = gpus >= 1 and trainer.device != "cpu"
    if (trainer.device == "cuda" and gpus < workers) or (use_gpu and gpus < workers):
        raise UsageError(f"trainer.workers={workers} need a GPU each; the cluster has {gpus:g}: lower trainer.workers")
    free_now = now.get("CPU", 0.0) - 2 * LOAD_CPUS
    share = max(0.5, free_now // (2 * workers) or free_now / workers)
    each = trainer.cpus_per_worker or (1.0 if use_gpu else share)
    if each * workers > cpus - 2 * LOAD_CPUS:
        raise UsageError(
            f"trainer.workers={workers} of {each:g} CPUs plus loading need {each * workers + 1:g} CPUs; "
            f"the cluster has {cpus:g} CPUs: lower trainer.workers or trainer.cpus_per_worker"
        )
    return ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": each, "GPU": int(use_gpu)})


def datasets_of(source: Source, settings: TrainSettings, plan: EpochPlan, streams: bool) -> dict[str, Dataset]:
    """The splits to read, as datasets of `DECODED` rows."""
    splits: list[Split] = ["train", "val", "test"] if settings.validation.test else ["train", "val"]
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    blocks = shuffled_blocks(source, settings)
    readers = {split: split_reader(source, split, settings, plan, streams and split == "train") for split in splits}
    return {split: _dataset(blocks, reader) for split, reader in readers.items()}


def _dataset(blocks: list[pa.Table], reader: SplitReader) -> Dataset:
    """The decoded images of a split."""
    encoded = ray.data.from_arrow(blocks).map_batches(
        partial(fetch, reader=reader), batch_size=None, batch_format="pyarrow", num_cpus=LOAD_CPUS
    )
    if reader.limit:
        encoded = encoded.limit(reader.limit)
    return encoded.map_batches(
        partial(decode, reader=reader), batch_size=DECODE_ROWS, batch_format="pyarrow", num_cpus=LOAD_CPUS
    )
