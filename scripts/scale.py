"""Estimates the time and cost of a bulk job: the table of docs/scale.md, or one with your own numbers.

python scripts/scale.py
python scripts/scale.py --images 5e6 --cpu-nodes 4 --gpu-nodes 1 --cpu-price 0.31
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class Model:
    """Constants. Those of the first block are measured (see docs/scale.md), the others are assumptions."""

    load_ms: float = 4.4  # CPU time of an image of one megapixel, without the download
    write_ms: float = 9.5
    predict_ms: float = 22.4  # of one CPU core, if there is no GPU
    other_ms: float = 15.0  # overhead of the whole job beyond its stages: Ray, its agents, its object store
    driver_ms: float = 0.2  # CPU time per input on the driver, which is one process, with 256 inputs per task
    start_seconds: float = 8.0  # from the command to the first output
    bytes_out: float = 118_000.0
    list_ms: float = 0.0057  # the driver's CPU time for listing and planning one object
    compact_ms: float = 0.0028  # for one row at the end
    bytes_disk: float = 370.0  # of the driver's temporary folder per input, during the comparison at a second start
    bytes_row: float = 128.0  # of the manifest
    efficiency: float = 0.97  # of several nodes relative to one

    gpu_rate: float = 1500.0  # images per second of one GPU
    cpus: int = 16  # per CPU node; a GPU node's are left to its predictor
    cpu_price: float = 0.33  # USD per hour: a spot machine of 16 CPUs
    gpu_price: float = 0.55  # a spot machine with one small GPU
    head_price: float = 0.23
    node_minutes: float = 6.0  # until a new machine is ready: boot, installation
    put_price: float = 5.4e-6  # per request
    get_price: float = 4.3e-7
    list_price: float = 5.4e-6  # per 1000 names
    store_price: float = 0.0245  # per gigabyte and month
    losses: float = 0.05  # fraction of spot machines reclaimed per hour
    lost_seconds: float = 60.0  # of a machine's work that is repeated after each loss


@dataclass(frozen=True)
class Bill:
    """The resources and cost of one job."""

    hours: float
    listing_hours: float  # included in the total, before anything else starts
    rate: float  # images per second
    limit: str
    machines: float  # USD
    requests: float
    storage: float  # USD per month
    losses: float  # machines lost during the job
    disk_gb: float  # of the driver's temporary folder
    manifest_gb: float


def bill(model: Model, images: float, cpu_nodes: int, gpu_nodes: int) -> Bill:
    """The job on so many nodes: listed by the driver, then as fast as the slowest of stages, GPUs and driver."""
    stages = model.load_ms + model.write_ms + model.other_ms + (0.0 if gpu_nodes else model.predict_ms)
    limits = {
        "CPU nodes": cpu_nodes * model.cpus / stages * 1000 * (model.efficiency if cpu_nodes > 1 else 1.0),
        "GPUs": gpu_nodes * model.gpu_rate if gpu_nodes else float("inf"),
        "driver": 1000 / model.driver_ms,
    }
    limit = min(limits, key=lambda name: limits[name])
    nodes = cpu_nodes + gpu_nodes
    work = images / limits[limit]
    lost = model.losses * nodes * work / 3600
    work += lost / nodes * (model.lost_seconds + 60 * model.node_minutes)
    listing = images * model.list_ms / 1000
    hours = (listing + model.start_seconds + work + images * model.compact_ms / 1000) / 3600
    prices = cpu_nodes * model.cpu_price + gpu_nodes * model.gpu_price + model.head_price
    return Bill(
        hours=hours,
        listing_hours=listing / 3600,
        rate=limits[limit],
        limit=limit,
        machines=prices * (hours + model.node_minutes / 60),
        requests=images * (model.put_price * (1 + 1 / 16) + model.get_price + model.list_price / 1000),
        storage=images * model.bytes_out / 1e9 * model.store_price,
        losses=lost,
        disk_gb=images * model.bytes_disk / 1e9,
        manifest_gb=images * model.bytes_row / 1e9,
    )


CASES = ((1e3, 1, 0), (1e6, 4, 0), (1e6, 4, 1), (1e8, 64, 0), (1e8, 64, 4))
HEAD = (
    "| images | CPU nodes + GPU nodes | images/s | bottleneck | hours (listing) | machines | requests "
    "| storage per month | lost nodes | driver's disk | manifest |\n" + "| --- " * 11 + "|"
)


def line(model: Model, images: float, cpu_nodes: int, gpu_nodes: int) -> str:
    """A table row."""
    b = bill(model, images, cpu_nodes, gpu_nodes)
    hours = f"{b.hours:.2f} ({b.listing_hours:.2f})"
    money = " | ".join(f"${value:,.2f}" for value in (b.machines, b.requests, b.storage))
    cells = f"{images:,.0f} | {cpu_nodes} + {gpu_nodes} | {b.rate:,.0f} | {b.limit} | {hours} | {money}"
    return f"| {cells} | {b.losses:.1f} | {b.disk_gb:.1f} GB | {b.manifest_gb:.1f} GB |"


def table() -> str:
    """The table of docs/scale.md."""
    return "\n".join([HEAD, *(line(Model(), *case) for case in CASES)])


def main(
    images: Annotated[float | None, typer.Option(help="number of images; default: the table of docs/scale.md")] = None,
    cpu_nodes: Annotated[int, typer.Option(help="nodes that load, compose and write")] = 4,
    gpu_nodes: Annotated[int, typer.Option(help="nodes that predict; 0: the CPU nodes predict")] = 0,
    cpus: Annotated[int, typer.Option(help="CPUs per CPU node")] = Model.cpus,
    megapixels: Annotated[float, typer.Option(help="megapixels per image")] = 1.0,
    cpu_price: Annotated[float, typer.Option(help="USD per CPU node and hour")] = Model.cpu_price,
    gpu_price: Annotated[float, typer.Option(help="USD per GPU node and hour")] = Model.gpu_price,
    gpu_rate: Annotated[float, typer.Option(help="images per second of a GPU")] = Model.gpu_rate,
    losses: Annotated[float, typer.Option(help="fraction of spot machines lost per hour")] = Model.losses,
) -> None:
    """Prints."""
    if images is None:
        print(table())
        return
    model = Model(
        load_ms=Model.load_ms * megapixels,
        write_ms=Model.write_ms * megapixels,
        bytes_out=Model.bytes_out * megapixels,
        cpus=cpus,
        cpu_price=cpu_price,
        gpu_price=gpu_price,
        gpu_rate=gpu_rate,
        losses=losses,
    )
    print(HEAD, line(model, images, cpu_nodes, gpu_nodes), sep="\n")


if __name__ == "__main__":
    typer.run(main)
