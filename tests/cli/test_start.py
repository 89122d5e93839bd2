"""Commands start without the slow imports of torch and Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.weights import shipped_weights

HEAVY = "print([m for m in ('torch', 'ray') if m in sys.modules], file=sys.stderr)"


def heavy_imports(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}; {HEAVY}"], capture_output=True, text=True)
    return done.stderr


@pytest.mark.parametrize("name", shipped_weights())
def test_the_header_of_shipped_weights_is_correct(name: str) -> None:
    found, loaded = find_model(name), load_checkpoint(shipped_weights()[name])
    assert (found.architecture, found.sha256) == (loaded.name, loaded.sha256)
    assert (found.stride, found.canvas) == (loaded.model.stride, loaded.model.canvas)


@pytest.mark.slow
def test_the_driver_of_a_bulk_job_needs_no_torch() -> None:
    code = "import colorize.bulk.job as job; job.find_model('default')"
    assert heavy_imports(code).strip() == "['ray']"


def test_a_mistyped_path_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    words = ["bulk", "--input", f"{tmp_path}/nothing", "--output", f"{tmp_path}/out"]
    said = heavy_imports(f"from colorize.cli import run; assert run({words!r}) == 2")
    error, modules = said.strip().splitlines()
    assert error == f"error: cannot use {tmp_path}/nothing: it does not exist"
    assert modules == "[]"
