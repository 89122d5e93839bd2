"""`colorize bulk --dry-run`: what there is to do, a sample of it really done, and what the rest would take.

The sample goes through the pipeline of a real run, on the cluster, into a sink that keeps nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from colorize.bulk.job import Prepared
from colorize.bulk.pipeline import stream
from colorize.bulk.progress import Totals
from colorize.bulk.resume import Work
from colorize.bulk.sinks import DiscardSink
from colorize.cluster.plan import StagePlan
from colorize.cluster.session import plan_for_cluster, ray_session
from colorize.datasets.sources import Source
from colorize.errors import say
from colorize.report.durations import duration

SAMPLE = 64  # images
START_SECONDS = 20.0  # of Ray, of the workers and of the network: about what docs/performance.md measures
FORMATS = 8  # kinds of files that are named


@dataclass
class Sample:
    """What some inputs took, in seconds of one process, and how they ended."""

    ok: int = 0
    others: Counter[str] = field(default_factory=Counter)  # by error code: skipped and failed ones
    fetch: float = 0.0  # waiting for storage
    predict: float = 0.0
    compose: float = 0.0  # decoding, composing and encoding
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def inputs(self) -> int:
        """Inputs that were tried."""
        return self.ok + self.others.total()


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run would meet and take."""

    inputs: int
    before: int  # settled by earlier runs
    later: int = 0  # left, and more than the run is to do
    bytes_in: int = 0  # estimated from the sample where the listing does not say
    kinds: Counter[str] = field(default_factory=Counter)
    sample: Sample = field(default_factory=Sample)
    plan: StagePlan | None = None  # None where nothing is left to do
    seconds: float = 0.0
    price_per_hour: float | None = None

    @property
    def bytes_out(self) -> int:
        """To be written, estimated from the sample."""
        return round(self.sample.bytes_out * self.inputs / max(self.sample.inputs, 1))

    @property
    def cost(self) -> float | None:
        """In the currency of the price; None where that is not known."""
        return None if self.price_per_hour is None else self.seconds / 3600 * self.price_per_hour

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "inputs": self.inputs,
            "done_before": self.before,
            "left": self.later,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "kinds": dict(self.kinds),
            "sample": asdict(self.sample),
            "plan": self.plan.as_dict() if self.plan else None,
            "seconds": round(self.seconds, 1),
            "cost": self.cost,
        }

    def lines(self) -> list[str]:
        """For a person."""
        if self.plan is None:
            return [f"nothing to do: {self.before:,} inputs were settled by earlier runs"]
        s, tried = self.sample, max(self.sample.inputs, 1)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.most_common(FORMATS))
        earlier = f" ({self.before:,} more were settled by earlier runs)" if self.before else ""
        others = "".join(f", {count} {code}" for code, count in s.others.most_common())
        spent = {"fetch": s.fetch, "predict": s.predict, "decode, compose and encode": s.compose}
        stages = ", ".join(f"{stage} {1000 * seconds / tried:.0f} ms" for stage, seconds in spent.items())
        pool = f"{self.plan.min_actors} to {self.plan.max_actors} {self.plan.device} predictors"
        rate, written = self.inputs / max(self.seconds - START_SECONDS, 1e-3), self.bytes_out / 1e9
        lines = [
            f"{self.inputs:,} inputs, {self.bytes_in / 1e9:,.3f} GB: {kinds}{earlier}",
            f"sample of {s.inputs}: {s.ok} colored{others}; for each: {stages}",
            f"estimate: {duration(self.seconds)} with {pool} ({rate:.1f} images/s), {written:,.3f} GB written",
        ]
        if self.later:
            lines.append(f"{self.later:,} more inputs are left for a run without --limit")
        if self.cost is not None:
            lines.append(f"cost: {self.cost:.2f} at {self.price_per_hour:g} an hour for the whole cluster")
        return lines


def dry_run(prepared: Prepared, price_per_hour: float | None = None) -> Forecast:
    """Counts what is left of a job that was found usable, and colors a sample of it on its cluster.

    Raises:
        UsageError: the cluster cannot be used.
    """
    settings = prepared.settings
    ledger = prepared.ledger()
    work = None if ledger.needs_cluster else prepared.work(ledger)
    if work is not None and not work.left.total:
        return Forecast(inputs=0, before=work.before.total())
    if prepared.job.verbosity != "quiet":
        say(f"coloring {SAMPLE} inputs at most, to measure", sys.stderr)
    with ray_session(prepared.job.ray_address) as may_grow:
        plan = plan_for_cluster(settings.pool, settings.run.start_seconds, may_grow)
        work = work or prepared.work(ledger)
        sample = measure(prepared, work, plan)
        cpus = ray.cluster_resources().get("CPU", 1.0)
    left = work.left
    return Forecast(
        inputs=left.total,
        before=work.before.total(),
        later=work.later,
        bytes_in=_bytes_of(left, sample),
        kinds=kinds_of(left),
        sample=sample,
        plan=plan,
        seconds=START_SECONDS + work_seconds(sample, left.total, plan, cpus),
        price_per_hour=price_per_hour,
    )


def measure(prepared: Prepared, work: Work, plan: StagePlan) -> Sample:
    """Colors a sample of the inputs that are left, and says what that took."""
    units = sampled_units(work.left.units)
    if not units.num_rows:
        return Sample()
    source = work.left.only(units, work.left.parts)
    loader, writer = prepared.loader(work.run), prepared.writer(DiscardSink())
    totals, found = Totals(source.total), Sample()
    for summary in stream(source, loader, writer, plan, prepared.settings, partial(bytes, prepared.model.data)):
        totals.add(summary)
        found.fetch += summary["fetch_seconds"]
        found.predict += summary["predict_seconds"]
    found.ok, found.others = totals.ok, totals.errors
    found.compose = totals.work_seconds - found.predict
    found.bytes_in, found.bytes_out = totals.bytes_in, totals.bytes_out
    return found


def work_seconds(sample: Sample, inputs: int, plan: StagePlan, cpus: float) -> float:
    """How long the slowest of three lines takes: the predictors, the CPUs that they leave, and waiting for storage.

    Tasks that wait give their CPU to others: of those there are `1 / task_cpus` for each CPU.
    """
    each = inputs / max(sample.inputs, 1)
    left = max(cpus - plan.max_actors * plan.cpus_per_actor, plan.task_cpus)
    busy = sample.compose
    lines = sample.predict / plan.max_actors, busy / left, (sample.fetch + busy) * plan.task_cpus / left
    return each * max(lines)


def kinds_of(source: Source) -> Counter[str]:
    """Inputs by suffix; rows of archives count as such."""
    if source.parts is not None:
        return Counter({f"rows of {len(source.versions):,} archives": source.total})
    return Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in source.names())


def sampled_units(units: pa.Table, count: int = SAMPLE) -> pa.Table:
    """About `count` inputs by chance, the same ones every time; of an archive's run of rows only the first few."""
    if not units.num_rows:
        return units
    chosen = sorted(np.random.default_rng(0).permutation(units.num_rows)[:count].tolist())
    some = pa.concat_tables([units.slice(index, 1) for index in chosen])
    rows = pc.min_element_wise(some["count"], -(-count // some.num_rows)).cast(units.schema.field("count").type)
    return some.set_column(units.schema.get_field_index("count"), "count", rows)


def _bytes_of(source: Source, sample: Sample) -> int:
    sizes = source.units["size"]
    known = pc.mean(sizes.filter(pc.greater_equal(sizes, 0))).as_py() if source.parts is None else None
    average = sample.bytes_in / max(sample.inputs, 1) if known is None else known
    return round(average * source.total)
