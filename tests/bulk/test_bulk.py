"""The bulk job end to end on a real Ray cluster: every input is recorded and every output is correct."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.storage.local_root import TEMPORARY_PREFIX
from colorize.storage.root import Storage
from colorize.weights import shipped_weights
from tests.conftest import LOGICAL_CPUS, S3, grey_jpeg, write_tree

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


def bulk(source: object, target: object, *options: str) -> int:
    """`colorize bulk` in this process, on the session's cluster; its exit status."""
    everything = () if any(option.startswith("triage.") for option in options) else ("--set", "triage.color=color")
    return run(["bulk", "--input", str(source), "--output", str(target), *everything, *options])


def rows(target: object) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in read_manifest(Storage(str(target))).to_pylist()}


def grey(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def is_colored(data: bytes) -> bool:
    ycbcr = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("YCbCr")).astype(int)
    return bool(np.abs(ycbcr[..., 1:] - 128).max() > 8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photo_files: dict[str, bytes]) -> Path:
    """`photo_files` as the folder `scans`, and `out`, the output of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    write_tree(folder / "scans", photo_files)
    assert bulk(folder / "scans", folder / "out", "--set", "colorizer.size=128") == 0
    return folder


def test_a_folder_is_colored_to_the_same_tree(finished: Path, photo_files: dict[str, bytes]) -> None:
    target = finished / "out"
    manifest = rows(target)
    assert set(manifest) == set(photo_files)
    for name, data in photo_files.items():
        row, colored = manifest[name], (target / name).read_bytes()
        assert (row["status"], row["error"], row["output"]) == ("ok", "", name)
        assert (row["bytes_in"], row["bytes_out"]) == (len(data), len(colored))
        assert row["sha256_in"] == hashlib.sha256(data).hexdigest()
        assert row["sha256_out"] == hashlib.sha256(colored).hexdigest()
        assert (
            (row["width"], row["height"]) == Image.open(io.BytesIO(data)).size == Image.open(io.BytesIO(colored)).size
        )
        assert is_colored(colored)
        assert row["seconds"] > 0
        if row["luma_exact"] and row["format"] != "JPEG":
            assert (grey(colored) == grey(data)).all()
    assert all(manifest[name]["luma_exact"] for name in ("1931/wide.png", "1931/tall.tif", "modern.webp"))
    assert {name for name, row in manifest.items() if row["triage"] == "color"} == {
        "modern.webp",
        "1931/Köln, Straße #3 100%.jpg",
    }


def test_color_images_are_skipped_or_copied(photo_folder: Path, tmp_path: Path) -> None:
    assert bulk(photo_folder, tmp_path / "skipped", "--set", "triage.color=skip") == 0
    assert bulk(photo_folder, tmp_path / "copied", "--set", "triage.color=copy") == 0

    skipped, copied = rows(tmp_path / "skipped")["modern.webp"], rows(tmp_path / "copied")["modern.webp"]
    assert (skipped["status"], skipped["error"], skipped["output"]) == ("skipped", "already_color", "")
    assert not (tmp_path / "skipped/modern.webp").exists()
    assert (copied["status"], copied["error"], copied["output"]) == ("skipped", "already_color", "modern.webp")
    assert copied["sha256_in"] == copied["sha256_out"]
    assert (tmp_path / "copied/modern.webp").read_bytes() == (photo_folder / "modern.webp").read_bytes()
    assert rows(tmp_path / "skipped")["grey.jpg"]["status"] == "ok"


def test_the_output_records_its_provenance(finished: Path) -> None:
    weights = hashlib.sha256(shipped_weights()["default"].read_bytes()).hexdigest()
    for name, row in rows(finished / "out").items():
        text = (finished / "out" / name).read_bytes()
        assert row["model"] == "default"
        assert row["model_sha256"] == weights
        assert weights.encode() in text
        assert row["sha256_in"].encode() in text
    assert (finished / "out/_colorize/model.safetensors").read_bytes() == shipped_weights()["default"].read_bytes()


def test_a_run_writes_its_record(finished: Path) -> None:
    report = json.loads((finished / "out/_colorize/run.json").read_text())
    assert report["state"] == "finished"
    assert report["totals"] | {"inputs": 5, "ok": 5, "skipped": 0, "failed": 0} == report["totals"]
    assert report["settings"]["colorizer"]["size"] == 128
    assert report["pictures_per_second"] > 0
    assert {entry["role"] for entry in report["processes"]} == {"driver", "load", "predict", "write"}
    assert all(entry["peak_mb"] > 1 for entry in report["processes"])
    log = (finished / "out/_colorize/run.log").read_text()
    assert "done 5/5, failed 0, skipped 0" in log
    assert "images/s" in log


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two valid images in an archive with other content."""
    good = grey_jpeg(1, 256, 192)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(noise, "PNG")
    files = {
        "a/good.jpg": good,
        "b/good.jpg": grey_jpeg(2, 100, 300),
        "truncated.jpg": good[: len(good) // 2],
        "truncated.png": noise.getvalue()[:2000],
        "empty.png": b"",
        "notes.txt": b"box 7, mostly harmless",
        "lies.jpg": b"this is no image",
        "Thumbs.db": b"litter",
    }
    write_tree(tmp_path / "mixed", files)
    return tmp_path / "mixed"


def test_bad_files_are_failed_rows_and_the_rest_is_colored(mixed: Path, tmp_path: Path) -> None:
    """The exit status reflects failures above the tolerance."""
    assert bulk(mixed, tmp_path / "out", "--tolerate-failures", "0.7") == 0
    assert bulk(mixed, tmp_path / "out", "--tolerate-failures", "0.1") == EXIT_FAILURES
    assert bulk(mixed, tmp_path / "out") == EXIT_FAILURES

    outcomes = {path: (row["status"], row["error"]) for path, row in rows(tmp_path / "out").items()}
    assert outcomes == {
        "a/good.jpg": ("ok", ""),
        "b/good.jpg": ("ok", ""),
        "truncated.jpg": ("failed", "truncated"),
        "truncated.png": ("failed", "truncated"),
        "empty.png": ("failed", "empty"),
        "notes.txt": ("failed", "not_an_image"),
        "lies.jpg": ("failed", "not_an_image"),
        "Thumbs.db": ("skipped", "excluded"),
    }
    assert all(row["message"] for row in rows(tmp_path / "out").values() if row["status"] != "ok")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*g")}
    assert written == {"a/good.jpg", "b/good.jpg", "_colorize/run.log"}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]


def test_two_inputs_never_share_an_output(tmp_path: Path) -> None:
    gif = io.BytesIO()
    Image.open(io.BytesIO(grey_jpeg(3))).save(gif, "GIF")
    png = io.BytesIO()
    Image.open(io.BytesIO(grey_jpeg(4))).save(png, "PNG")
    files = {"a.gif": gif.getvalue(), "a.png": png.getvalue(), "b/a.png": png.getvalue(), "b/a.gif": gif.getvalue()}
    write_tree(tmp_path / "in", files | {"b/a.gif.png": png.getvalue()})
    assert bulk(tmp_path / "in", tmp_path / "out") == 0

    outputs = {path: row["output"] for path, row in rows(tmp_path / "out").items()}
    assert outputs == {
        "a.gif": "a.gif.png",
        "a.png": "a.png",
        "b/a.png": "b/a.png",
        "b/a.gif": "b/a.gif.colorized.png",
        "b/a.gif.png": "b/a.gif.png",
    }
    assert all((tmp_path / "out" / name).exists() for name in outputs.values())


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_in_parquet_out(tmp_path: Path, struct: bool) -> None:
    images = [grey_jpeg(seed, 64 + 8 * seed, 96) for seed in range(12)]
    images[5] = b"broken"
    column = [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(images)] if struct else images
    table = pa.table({"image": column, "year": list(range(12)), "title": [f"No. {i}" for i in range(12)]})
    (tmp_path / "in/sub").mkdir(parents=True)
    pq.write_table(table, tmp_path / "in/sub/a.parquet", row_group_size=5)
    pq.write_table(table.slice(0, 3), tmp_path / "in/b.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "in/none.parquet")
    assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES

    after = pq.read_table(tmp_path / "out/sub/a.parquet")
    assert after.select(table.column_names).equals(table)
    for index, colored in enumerate(after["colorized"].to_pylist()):
        if index == 5:
            assert colored is None
        else:
            assert Image.open(io.BytesIO(colored)).size == Image.open(io.BytesIO(images[index])).size
            assert is_colored(colored)
    assert after["status"].to_pylist() == ["failed" if i == 5 else "ok" for i in range(12)]
    assert after["error"].to_pylist()[5] == "not_an_image"
    assert pq.read_table(tmp_path / "out/b.parquet").num_rows == 3
    assert pq.read_table(tmp_path / "out/none.parquet").num_rows == 0
    assert len(rows(tmp_path / "out")) == 15
    assert not (tmp_path / "out/_colorize/fragments").exists()


def test_a_damaged_archive_loses_only_unreadable_rows(tmp_path: Path) -> None:
    images = [grey_jpeg(seed) for seed in range(30)]
    images[4] = images[4][:600]
    table = pa.table({"image": images, "year": list(range(30))})
    (tmp_path / "in").mkdir()
    for name in ("good.parquet", "damaged.parquet", "cut.parquet"):
        pq.write_table(table, tmp_path / "in" / name, row_group_size=10, use_dictionary=False)
    path, metadata = tmp_path / "in/damaged.parquet", pq.read_metadata(tmp_path / "in/good.parquet")
    data = bytearray(path.read_bytes())
    for group, column in ((1, 0), (2, 1)):  # images, years
        start = metadata.row_group(group).column(column).data_page_offset
        data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    (tmp_path / "in/cut.parquet").write_bytes(data[:-20])
    assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES

    states = {path: (row["status"], row["error"]) for path, row in rows(tmp_path / "out").items()}
    assert len(states) == 61
    assert [i for i in range(30) if states[f"good.parquet#{i}"] != ("ok", "")] == [4]
    ends = [("ok", "")] * 10 + [("failed", "corrupt_parquet")] * 10 + [("failed", "archive_unreadable")] * 10
    ends[4] = ("failed", "truncated")
    assert [states[f"damaged.parquet#{i}"] for i in range(30)] == ends
    assert states["cut.parquet"] == ("failed", "corrupt_parquet")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.parquet")) == ["damaged.parquet", "good.parquet"]
    after = pq.read_table(tmp_path / "out/damaged.parquet")
    assert after["year"].to_pylist() == [*range(20), *[None] * 10]
    assert list(zip(after["status"].to_pylist(), after["error"].to_pylist(), strict=True)) == ends
    assert [value is None for value in after["colorized"].to_pylist()] == [status == "failed" for status, _ in ends]
    report = json.loads((tmp_path / "out/_colorize/run.json").read_text())
    assert (report["totals"]["ok"], report["totals"]["failed"]) == (38, 23)
    assert bulk(tmp_path / "in", tmp_path / "out") == EXIT_FAILURES
    assert json.loads((tmp_path / "out/_colorize/run.json").read_text())["totals"]["done_before"] >= 60


def test_from_bucket_to_bucket(s3: S3, photo_files: dict[str, bytes]) -> None:
    """1,000 small images and awkward names, from one bucket to another."""
    source, target = Storage("s3://scans/job"), Storage("s3://colored/job")
    names = ["a b.jpg", "1,2.jpg", "Müller & Söhne.jpg", "#1.jpg", "100%.jpg", "%41.jpg", "[x]*?.jpg", "ñ/é+è.jpg"]
    files = {name: grey_jpeg(i) for i, name in enumerate(names)} | photo_files
    files |= {f"many/{i // 100}/{i:04d}.jpg": grey_jpeg(i) for i in range(1000)}
    source.fs.pipe({source.path(name): data for name, data in files.items() if "*" not in name})
    source.write("[x]*?.jpg", files["[x]*?.jpg"])
    source.write("broken.jpg", b"no image")
    assert bulk(source.uri, target.uri, "--set", "colorizer.size=64") == EXIT_FAILURES

    manifest = rows(target.uri)
    assert set(manifest) == {*files, "broken.jpg"}
    assert {path for path, row in manifest.items() if row["status"] != "ok"} == {"broken.jpg"}
    written = {entry.name: entry.size for entry in target.entries() if not entry.name.startswith("_colorize/")}
    assert written == {row["output"]: row["bytes_out"] for row in manifest.values() if row["status"] == "ok"}
    for name in [*names, *photo_files]:
        assert Image.open(io.BytesIO(target.read(name))).size == Image.open(io.BytesIO(files[name])).size
    assert "done 1014/1014" in target.read("_colorize/run.log").decode()


def test_an_inventory_lists_the_inputs(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\ngrey.jpg\nnot there.jpg\n")
    assert bulk(photo_folder, tmp_path / "out", "--input-list", str(tmp_path / "list.csv")) == EXIT_FAILURES

    assert {path: row["error"] for path, row in rows(tmp_path / "out").items()} == {
        "grey.jpg": "",
        "not there.jpg": "unreadable",
    }


def test_large_images_are_reread_instead_of_sent_through_the_object_store(finished: Path, tmp_path: Path) -> None:
    large = ("--set", "colorizer.size=128", "--set", "source.inline_bytes=100")
    assert bulk(finished / "scans", tmp_path / "out", *large) == 0

    before, after = (
        {path: row["sha256_out"] for path, row in rows(out).items()} for out in (finished / "out", tmp_path / "out")
    )
    assert before == after


def test_an_image_above_a_limit_fails_with_advice(photo_folder: Path, tmp_path: Path) -> None:
    limits = ("--set", "limits.max_pixels=100000", "--set", "limits.min_side=300")
    assert bulk(photo_folder, tmp_path / "out", *limits) == EXIT_FAILURES

    manifest = rows(tmp_path / "out")
    assert manifest["grey.jpg"]["error"] == "too_large"
    assert "limits.max_pixels" in manifest["grey.jpg"]["message"]
    assert manifest["1931/tall.tif"]["error"] == "too_small"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "pool.maxx=2"], "unknown setting 'pool.maxx' (did you mean 'pool.max'?)"),
        (["--set", "pool.max=0"], "pool.max=0"),
        (["--model", "defualt"], "unknown model 'defualt' (did you mean 'default'?)"),
        (["--model", "no/such.safetensors"], "no/such.safetensors"),
        (["--config", "no/such.yaml"], "cannot read the configuration no/such.yaml"),
        (["--tolerate-failures", "2"], "run.tolerate_failures=2.0"),
        (["--set", "pool.device=cuda"], "the cluster has no GPU"),
        (["--set", "pool.min=50"], f"the cluster has {LOGICAL_CPUS} CPUs"),
        (["--set", "pool.cpus_per_actor=64"], f"the cluster has {LOGICAL_CPUS} CPUs"),
        (["--bogus"], "--bogus"),
        (["--set", "pool.cpus_per_actor=0.00001"], "pool.cpus_per_actor"),
    ],
)
def test_a_usage_error_is_one_line(
    options: list[str], message: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert bulk(photo_folder, tmp_path / "out", *options, "--set", "run.start_seconds=1") == EXIT_USAGE

    assert_one_line(capsys, message)
    assert time.monotonic() - started < 30
    assert not (tmp_path / "out/_colorize").exists()


@pytest.mark.parametrize("target", ["scans", "scans/out", "."])
def test_input_and_output_must_not_overlap(
    target: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert bulk(photo_folder, tmp_path / target) == EXIT_USAGE

    assert_one_line(capsys, "overlap")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_is_not_overwritten_by_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"image": [grey_jpeg(1)]}), tmp_path / "a.parquet")
    assert bulk(tmp_path / "a.parquet", tmp_path) == EXIT_USAGE

    assert_one_line(capsys, "overlap")


def test_an_image_is_not_overwritten_through_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, {"scans/a.jpg": grey_jpeg(1)})
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    assert bulk(tmp_path / "scans/a.jpg", tmp_path / "link") == EXIT_USAGE

    assert_one_line(capsys, "overlap")


def test_a_missing_input_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bulk(tmp_path / "nowhere", tmp_path / "out") == EXIT_USAGE

    assert_one_line(capsys, "nowhere: it does not exist")


def test_an_unwritable_output_is_a_usage_error(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    assert bulk(photo_folder, tmp_path / "file" / "out") == EXIT_USAGE

    assert_one_line(capsys, str(tmp_path / "file" / "out"))


@pytest.fixture
def busy_cluster() -> Iterator[None]:
    """Another job occupies all CPUs."""

    class Hog:
        def ready(self) -> bool:
            return True

    remote: Any = ray.remote(num_cpus=LOGICAL_CPUS)(Hog)
    hog = remote.remote()
    ray.get(hog.ready.remote())
    yield
    ray.kill(hog)


@pytest.mark.usefixtures("busy_cluster")
def test_a_job_that_cannot_start_fails_instead_of_hanging(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert bulk(photo_folder, tmp_path / "out", "--set", "run.start_seconds=3") == EXIT_USAGE

    assert_one_line(capsys, "stop other jobs")
    assert time.monotonic() - started < 20


def assert_one_line(capsys: pytest.CaptureFixture[str], message: str) -> None:
    text = capsys.readouterr().err
    assert message in text
    assert text.startswith("error: ")
    assert text.count("\n") == 1
