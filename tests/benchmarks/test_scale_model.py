"""The cost model of docs/scale.md: its table is the printed one, and its limits are as documented."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_model", DOCS.parent / "scripts/scale.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_model"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_contains_the_printed_table(scale: ModuleType) -> None:
    assert scale.table() in (DOCS / "scale.md").read_text()


def test_more_nodes_help_until_the_driver_is_the_limit(scale: ModuleType) -> None:
    bills = [scale.bill(scale.Model(), 1e8, nodes, 0) for nodes in (1, 16, 64, 256)]
    assert [bill.limit for bill in bills] == ["CPU nodes", "CPU nodes", "driver", "driver"]
    assert [bill.rate for bill in bills] == sorted(bill.rate for bill in bills)
    assert bills[3].machines > bills[2].machines


def test_with_a_gpu_the_network_needs_no_cpu(scale: ModuleType) -> None:
    without, beside = (scale.bill(scale.Model(), 1e6, 4, gpus) for gpus in (0, 1))
    assert beside.hours < without.hours
    assert scale.bill(scale.Model(gpu_rate=10.0), 1e6, 4, 1).limit == "GPUs"


def test_lost_spot_machines_cost_time(scale: ModuleType) -> None:
    calm, stormy = (scale.bill(scale.Model(losses=losses), 1e8, 16, 0) for losses in (0.0, 0.5))
    assert calm.losses == 0
    assert stormy.hours > calm.hours
