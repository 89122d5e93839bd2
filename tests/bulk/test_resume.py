"""Resuming: completed inputs are skipped; changed, failed, missing and new ones are processed."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colorize.bulk import merging
from colorize.bulk.ledger.fresh import PREVIOUS
from colorize.bulk.ledger.manifest import MANIFEST
from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.storage.local_root import TEMPORARY_PREFIX
from colorize.storage.lock import exclusive
from colorize.storage.root import Storage
from tests.conftest import S3, grey_jpeg, write_tree

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


def bulk(source: object, target: object, *options: str) -> int:
    return run(["bulk", "--input", str(source), "--output", str(target), "--set", "colorizer.size=64", *options])


def runs(target: object) -> dict[str, int]:
    """The run id of each input's row."""
    return {row["path"]: row["run"] for row in read_manifest(Storage(str(target))).to_pylist()}


def report(target: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Storage(str(target)).read("_colorize/run.json"))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images and a corrupt one, and the output of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    write_tree(folder / "scans", {f"box/{i}.jpg": grey_jpeg(i) for i in range(5)} | {"broken.jpg": b"no image"})
    assert bulk(folder / "scans", folder / "out") == EXIT_FAILURES
    return folder


@pytest.fixture
def scans(finished: Path, tmp_path: Path) -> Path:
    """A copy of the images with their timestamps."""
    return Path(shutil.copytree(finished / "scans", tmp_path / "scans"))


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the output."""
    return Path(shutil.copytree(finished / "out", tmp_path / "out"))


def test_a_second_run_does_nothing_and_prints_the_same_summary(
    scans: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.[jp]*") if path.name != "run.json"}
    monkeypatch.setattr("colorize.bulk.job.ray_session", None)  # Ray is not even started
    assert bulk(scans, done) == EXIT_FAILURES

    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.[jp]*") if path.name != "run.json"} == before
    assert "6 inputs: 5 colored, 0 skipped, 1 failed (6 of them by earlier runs)" in capsys.readouterr().out
    assert report(done)["totals"]["ok"] == report(done)["totals"]["done_before"] - 1 == 5
    assert report(done)["errors"] == {"not_an_image": 1}


def test_two_runs_into_one_folder_are_refused(scans: Path, done: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted(done.rglob("*"))
    with exclusive(Storage(done)):
        assert bulk(scans, done) == EXIT_USAGE
    assert f"another run writes to --output {done}: wait until it ends" in capfd.readouterr().err
    assert sorted(done.rglob("*")) == before
    assert bulk(scans, done) == EXIT_FAILURES


def test_only_new_changed_or_missing_inputs_are_processed(scans: Path, done: Path) -> None:
    (scans / "box/0.jpg").write_bytes(b"damaged since")
    (scans / "new.jpg").write_bytes(grey_jpeg(50))
    (scans / "box/1.jpg").write_bytes(grey_jpeg(51))
    (done / "box/2.jpg").unlink()
    (done / "box/3.jpg").write_bytes(b"cut by another hand")
    assert bulk(scans, done) == EXIT_FAILURES

    assert {path for path, number in runs(done).items() if number == 2} == {
        "new.jpg", "box/0.jpg", "box/1.jpg", "box/2.jpg", "box/3.jpg",
    }  # fmt: skip
    assert len(runs(done)) == 7
    assert not (done / "box/0.jpg").exists()  # its input fails now


def test_failures_are_retried_only_on_request(scans: Path, done: Path) -> None:
    assert bulk(scans, done) == EXIT_FAILURES
    assert runs(done)["broken.jpg"] == 1
    assert bulk(scans, done, "--retry-failed") == EXIT_FAILURES

    assert {path for path, number in runs(done).items() if number > 1} == {"broken.jpg"}
    (scans / "broken.jpg").write_bytes(grey_jpeg(9))
    assert bulk(scans, done) == 0


def test_changed_settings_redo_everything(scans: Path, done: Path) -> None:
    assert bulk(scans, done, "--set", "colorizer.size=96") == EXIT_FAILURES

    assert set(runs(done).values()) == {2}


def test_fresh_redoes_everything_and_drops_vanished_inputs(scans: Path, done: Path) -> None:
    """Until then the rows of vanished inputs stay. Their copies stay, too; stale ones do not."""
    (scans / "box/1.jpg").unlink()
    (scans / "broken.jpg").unlink()
    assert bulk(scans, done) == 0
    assert len(runs(done)) == 6
    assert report(done)["totals"]["inputs"] == 4

    (scans / "box/0.jpg").write_bytes(b"damaged since")
    assert bulk(scans, done, "--fresh") == EXIT_FAILURES
    assert runs(done) == dict.fromkeys((f"box/{i}.jpg" for i in (0, 2, 3, 4)), 2)
    assert not (done / "box/0.jpg").exists()
    assert (done / "box/1.jpg").exists()
    assert not (done / PREVIOUS).exists()


def test_a_failed_fresh_start_keeps_the_manifest(scans: Path, done: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert bulk(scans, done, "--fresh", "--set", "pool.cpus_per_actor=999") == EXIT_USAGE
    assert "999" in capfd.readouterr().err
    assert len(runs(done)) == 6


def test_a_copied_image_that_vanished_is_copied_again(scans: Path, tmp_path: Path, astronaut: Image.Image) -> None:
    astronaut.save(scans / "color.png")
    copy, options = tmp_path / "out/color.png", ("--set", "triage.color=copy", "--verify", "hash")
    assert bulk(scans, tmp_path / "out", *options) == EXIT_FAILURES
    copy.unlink()
    assert bulk(scans, tmp_path / "out", *options) == EXIT_FAILURES
    assert copy.read_bytes() == (scans / "color.png").read_bytes()


def test_verifying_by_hash_detects_changes_that_stat_misses(scans: Path, done: Path) -> None:
    os.utime(scans / "box/0.jpg", (1, 1))  # touched, but equal
    path = scans / "box/1.jpg"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-3] + b"\x01\xff\xd9")  # changed, but with equal size and time
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    output = bytearray((done / "box/2.jpg").read_bytes())
    output[-3] ^= 1  # a damaged output
    (done / "box/2.jpg").write_bytes(output)
    assert bulk(scans, done, "--verify", "hash") == EXIT_FAILURES

    assert {path for path, number in runs(done).items() if number == 2} == {"box/1.jpg", "box/2.jpg"}


def test_a_name_collision_renames_an_earlier_output(tmp_path: Path) -> None:
    gif = io.BytesIO()
    Image.open(io.BytesIO(grey_jpeg(3))).save(gif, "GIF")
    write_tree(tmp_path / "in", {"a.gif": gif.getvalue()})
    assert bulk(tmp_path / "in", tmp_path / "out") == 0
    Image.open(io.BytesIO(grey_jpeg(4))).save(tmp_path / "in/a.gif.png")
    assert bulk(tmp_path / "in", tmp_path / "out") == 0

    outputs = {row["path"]: row["output"] for row in read_manifest(Storage(tmp_path / "out")).to_pylist()}
    assert outputs == {"a.gif": "a.gif.colorized.png", "a.gif.png": "a.gif.png"}


def test_changed_patterns_and_limits_affect_previously_excluded_inputs(scans: Path, tmp_path: Path) -> None:
    (scans / "box/2.jpg").write_bytes(grey_jpeg(4, width=640, height=480))
    few = ("--set", "source.include=['box/[0-2]*']", "--set", "limits.max_pixels=10000")
    more = ("--set", "source.include=['box/*']", "--set", "limits.max_pixels=1000000")
    assert bulk(scans, tmp_path / "out", *few) == EXIT_FAILURES
    assert bulk(scans, tmp_path / "out", *more) == 0

    assert runs(tmp_path / "out") == {"box/0.jpg": 1, "box/1.jpg": 1, "box/2.jpg": 2, "box/3.jpg": 2, "box/4.jpg": 2,
                                      "broken.jpg": 1}  # fmt: skip


def test_several_lists_can_share_an_output(scans: Path, tmp_path: Path) -> None:
    """A file that changed in between is redone."""
    for day, names in enumerate((["box/0.jpg", "box/1.jpg"], ["box/0.jpg", "box/1.jpg", "box/2.jpg"])):
        (tmp_path / f"{day}.txt").write_text("\n".join(names))
        assert bulk(scans, tmp_path / "out", "--input-list", str(tmp_path / f"{day}.txt")) == 0
        (scans / "box/0.jpg").write_bytes(grey_jpeg(77))

    assert runs(tmp_path / "out") == {"box/0.jpg": 2, "box/1.jpg": 1, "box/2.jpg": 2}


def test_leftovers_of_a_killed_process_are_deleted(scans: Path, done: Path) -> None:
    (done / "box" / f"{TEMPORARY_PREFIX}deadbeef").write_bytes(b"half a pic")
    bulk(scans, done)

    assert not list(done.rglob(f"{TEMPORARY_PREFIX}*"))


def test_manifest_parts_are_merged_during_a_large_run(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "PARTS", 2)
    joined = []
    start = merging.Merging.finish

    def finish(joiner: merging.Merging) -> None:
        joined.append(joiner.running)
        start(joiner)

    monkeypatch.setattr(merging.Merging, "finish", finish)
    bulk(scans, tmp_path / "out", "--set", "source.rows_per_task=1")

    assert any(joined)
    assert set(runs(tmp_path / "out").values()) == {1}
    assert len(runs(tmp_path / "out")) == 6


def test_a_killed_run_is_resumed(scans: Path, done: Path) -> None:
    """Its rows are in parts, one of them duplicated, without a compacted manifest."""
    rows = read_manifest(Storage(done)).sort_by("path")
    Storage(done).delete_tree(MANIFEST)
    (done / MANIFEST).mkdir()
    pq.write_table(rows.slice(0, 2), done / MANIFEST / "part-000001-aaaa.parquet")
    pq.write_table(rows.slice(1, 2), done / MANIFEST / "part-000001-bbbb.parquet")
    assert bulk(scans, done) == EXIT_FAILURES

    assert sorted(runs(done).values()) == [1, 1, 1, 2, 2, 2]
    assert [path.name for path in (done / MANIFEST).iterdir()] == ["manifest-000002-00000.parquet"]


def test_runs_on_buckets_resume_from_listings(s3: S3) -> None:
    source, target = Storage("s3://scans/again"), Storage("s3://colored/again")
    for i in range(4):
        source.write(f"{i}.jpg", grey_jpeg(i))
    assert bulk(source.uri, target.uri) == 0
    source.write("1.jpg", grey_jpeg(80))
    target.delete("2.jpg")
    assert bulk(source.uri, target.uri) == 0

    assert runs(target.uri) == {"0.jpg": 1, "1.jpg": 2, "2.jpg": 2, "3.jpg": 1}


def archive(path: Path, seeds: range, **extra: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [grey_jpeg(seed) for seed in seeds], "seed": list(seeds)})
    pq.write_table(table, path, row_group_size=extra.get("row_group", 10))


def test_completed_archives_are_skipped_and_changed_ones_redone(tmp_path: Path) -> None:
    """A repaired archive has no rows from before the repair."""
    archive(tmp_path / "in/a.parquet", range(12))
    archive(tmp_path / "in/b.parquet", range(8))
    archive(tmp_path / "in/broken.parquet", range(3))
    whole = (tmp_path / "in/broken.parquet").read_bytes()
    (tmp_path / "in/broken.parquet").write_bytes(whole[:-30])
    for _ in range(2):
        assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES
    archive(tmp_path / "in/b.parquet", range(20, 25))
    archive(tmp_path / "in/c.parquet", range(3))
    (tmp_path / "in/broken.parquet").write_bytes(whole)
    assert bulk(tmp_path / "in", tmp_path / "out") == 0

    expected = {f"a.parquet#{i}": 1 for i in range(12)} | {f"b.parquet#{i}": 3 for i in range(5)}
    expected |= {f"{name}.parquet#{i}": 3 for name in ("c", "broken") for i in range(3)}
    assert runs(tmp_path / "out") == expected
    assert pq.read_table(tmp_path / "out/b.parquet")["seed"].to_pylist() == list(range(20, 25))
    assert report(tmp_path / "out")["totals"]["done_before"] == 12


def test_an_archive_resumes_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path / "in/a.parquet", range(60), row_group=25)
    assert bulk(tmp_path / "in", tmp_path / "whole") == 0

    def cut_off(assembly: Any, parts: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("colorize.bulk.assembly.Assembly.add", cut_off)
        assert bulk(tmp_path / "in", tmp_path / "out") == 130
    before = runs(tmp_path / "out")
    assert before
    assert not (tmp_path / "out/a.parquet").exists()
    assert bulk(tmp_path / "in", tmp_path / "out") == 0

    assert pq.read_table(tmp_path / "out/a.parquet").equals(pq.read_table(tmp_path / "whole/a.parquet"))
    after = runs(tmp_path / "out")
    assert len(after) == 60
    assert {path for path, number in after.items() if number == 1} == set(before)
    assert not (tmp_path / "out/_colorize/fragments").exists()


def test_failed_rows_of_an_archive_are_retried_with_their_archive(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [grey_jpeg(1), b"broken"]}), _made(tmp_path / "in") / "a.parquet")
    assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES
    assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES
    assert set(runs(tmp_path / "out").values()) == {1}
    assert bulk(tmp_path / "in", tmp_path / "out", "--retry-failed") == EXIT_FAILURES

    assert set(runs(tmp_path / "out").values()) == {2}
    assert pq.read_table(tmp_path / "out/a.parquet")["status"].to_pylist() == ["ok", "failed"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
