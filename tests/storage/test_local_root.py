"""Links planted in an output: no command writes or deletes through them."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from colorize.bulk.run_log import LOG_NAME, run_log
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.errors import UsageError
from colorize.storage.local_root import TEMPORARY_PREFIX, LocalRoot
from colorize.storage.lock import LOCK, exclusive
from colorize.storage.root import Storage
from colorize.train.run_folder import RESULTS, RunFolder
from colorize.train.settings import TrainSettings
from tests.conftest import S3, grey_jpeg, write_tree

THEIRS = b"what somebody else has written"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside the output, whose files must not change."""
    write_tree(
        tmp_path / "elsewhere",
        {"notes.txt": THEIRS, "manifest/part.parquet": THEIRS, f"{TEMPORARY_PREFIX}0": THEIRS, "fragments/1": THEIRS},
    )
    return tmp_path / "elsewhere"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with links that lead out of it."""
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/box").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out/deep/box").symlink_to("../../elsewhere")
    (tmp_path / "out/file").symlink_to(tmp_path / "elsewhere/notes.txt")
    return tmp_path / "out"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def create(root: Storage, name: str) -> None:
    with root.create(name) as file:
        file.write(b"ours")


def publish(root: Storage, name: str) -> None:
    draft = root.draft("draft")
    root.publish(draft, name)


WRITES: list[Callable[[Storage, str], object]] = [
    lambda root, name: root.write(name, b"ours"),
    create,
    publish,
    lambda root, name: root.draft(name),
    lambda root, name: root.local.open_log(name),
    lambda root, name: root.local.open_private(name),
]
REMOVALS: list[Callable[[Storage, str], object]] = [Storage.delete, Storage.delete_tree]


@pytest.mark.parametrize("change", WRITES + REMOVALS)
@pytest.mark.parametrize("name", ["box/notes.txt", "box/new.txt", "deep/box/manifest/part.parquet", "box/a/b"])
def test_nothing_is_written_through_a_linked_folder(
    change: Callable[[Storage, str], object], name: str, out: Path, elsewhere: Path
) -> None:
    before = content(elsewhere)
    with pytest.raises(OSError, match=rf"{out}.*/box is a link.*remove the link"):
        change(Storage(out), name)

    assert content(elsewhere) == before
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("write", [WRITES[0], create, publish, WRITES[4]])
def test_writing_replaces_a_symbolic_link(write: Callable[[Storage, str], object], out: Path, elsewhere: Path) -> None:
    write(Storage(out), "file")

    assert not (out / "file").is_symlink()
    assert (elsewhere / "notes.txt").read_bytes() == THEIRS


def test_writing_replaces_a_hard_link(out: Path, elsewhere: Path) -> None:
    (out / "twin").hardlink_to(elsewhere / "notes.txt")
    Storage(out).write("twin", b"ours")

    assert (elsewhere / "notes.txt").read_bytes() == THEIRS


def test_a_draft_replaced_by_a_link_is_not_written_to(out: Path, elsewhere: Path) -> None:
    draft = Storage(out).draft("a.tif")
    draft.path.unlink()
    draft.path.symlink_to(elsewhere / "notes.txt")
    with pytest.raises(OSError, match=r"symbolic links: .*/out/\.colorize-"):
        draft.open()
    with pytest.raises(OSError, match="symbolic links"):
        Storage(out).publish(draft, "a.tif")

    assert (elsewhere / "notes.txt").read_bytes() == THEIRS


def test_temporary_names_are_unpredictable(tmp_path: Path) -> None:
    names = {Storage(tmp_path).draft("a.tif").name.removeprefix(TEMPORARY_PREFIX) for _ in range(50)}

    assert len(names) == 50
    assert {len(name) for name in names} == {16}  # 64 random bits


@pytest.mark.parametrize("remove", REMOVALS)
def test_deleting_a_link_keeps_its_target(remove: Callable[[Storage, str], object], out: Path, elsewhere: Path) -> None:
    before = content(elsewhere)
    if remove is Storage.delete_tree:
        with pytest.raises(OSError, match="remove the link"):
            remove(Storage(out), "box")
    else:
        remove(Storage(out), "box")
        assert not (out / "box").is_symlink()

    assert content(elsewhere) == before


def test_deleting_a_tree_keeps_the_targets_of_its_links(out: Path, elsewhere: Path) -> None:
    before = content(elsewhere)
    Storage(out).delete_tree("deep")

    assert not (out / "deep").exists()
    assert content(elsewhere) == before


def test_temporary_files_are_deleted_only_within_the_output(out: Path, elsewhere: Path) -> None:
    before = content(elsewhere)
    (out / f"deep/{TEMPORARY_PREFIX}1").touch()
    (out / f"deep/{TEMPORARY_PREFIX}2").symlink_to(elsewhere / "notes.txt")
    Storage(out).delete_temporary_files()

    assert [path.name for path in (out / "deep").iterdir()] == ["box"]
    assert content(elsewhere) == before


def test_a_linked_root_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    Storage(tmp_path / "out").write("box/a.jpg", b"ours")

    assert (tmp_path / "disk/box/a.jpg").read_bytes() == b"ours"


def test_errors_name_the_full_path(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/box").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=rf"{tmp_path}/out/box/a\.jpg"):
        Storage(tmp_path / "out").write("box/a.jpg", b"ours")


def test_exceptions_of_the_with_block_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, LocalRoot(str(tmp_path)).build("a.jpg"):
        raise OSError(5, "Input/output error")

    assert caught.value.filename is None
    assert not list(tmp_path.iterdir())


# Commands


def refused(capsys: pytest.CaptureFixture[str], words: list[str], link: Path) -> None:
    """The command fails with a one-line usage error that names the link and the remedy."""
    assert run(words) == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert str(link) in line
    assert "is a link: remove it, or choose another output" in line


@pytest.mark.parametrize("options", [[], ["--fresh"], ["--dry-run"]], ids=str)
def test_a_linked_ledger_is_refused_first(
    options: list[str], tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"scans/a.jpg": grey_jpeg(1), "out/old.jpg": b"old"})
    (tmp_path / "out/_colorize").symlink_to(elsewhere)
    before = content(tmp_path)
    words = ["bulk", "--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out"), *options]
    refused(capsys, words, tmp_path / "out/_colorize")

    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["manifest", "fragments", "lock", "run.log", "run.json", "report.html", "forgotten.parquet"]
)
def test_a_link_in_the_ledger_is_refused_first(
    name: str, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"scans/a.jpg": grey_jpeg(1), "out/_colorize/other": b""})
    (tmp_path / "out/_colorize" / name).symlink_to(elsewhere / "notes.txt")
    before = content(tmp_path)
    words = ["bulk", "--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out"), "--fresh"]
    refused(capsys, words, tmp_path / "out/_colorize" / name)
    refused(capsys, ["report", str(tmp_path / "out")], tmp_path / "out/_colorize" / name)

    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["metrics.json", "per_image.parquet", "evaluation.html"])
def test_an_evaluation_whose_file_is_a_link_is_refused(
    name: str, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"photos/val/a.jpg": grey_jpeg(1), "out/other": b""})
    (tmp_path / "out" / name).symlink_to(elsewhere / "notes.txt")
    words = ["evaluate", "--model", "grey", "--data", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    refused(capsys, words, tmp_path / "out" / name)

    assert (elsewhere / "notes.txt").read_bytes() == THEIRS


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("resume", [False, True])
def test_a_training_run_whose_file_is_a_link_is_refused(
    name: str, resume: bool, tmp_path: Path, elsewhere: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(elsewhere)
    before = content(elsewhere)
    with pytest.raises(UsageError, match=rf"{name} is a link.*remove it"):
        RunFolder(tmp_path / "run", TrainSettings()).claim(resume)

    assert content(elsewhere) == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


@pytest.mark.slow
def test_photo_replaces_a_link_and_keeps_its_target(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`photo`, its sheets, `restore-grey` and `export`: each over links with the names that they write."""
    write_tree(tmp_path, {"a.jpg": grey_jpeg(1), "colored/other": b"", "grey/other": b""})
    before = content(elsewhere)
    for name in ("colored/a.jpg", "colored/a.jpg.compare.jpg", "grey/a.jpg", "model.safetensors"):
        (tmp_path / name).symlink_to(elsewhere / "notes.txt")
    colored, grey, model = (str(tmp_path / name) for name in ("colored", "grey", "model.safetensors"))

    assert (
        run(["photo", str(tmp_path / "a.jpg"), "-o", colored, "--overwrite", "--compare", "--set", "colorizer.size=64"])
        == 0
    )
    assert run(["restore-grey", f"{colored}/a.jpg", "-o", grey, "--overwrite"]) == 0
    assert run(["export", "default", "-o", model]) == 0
    assert content(elsewhere) == before
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


def test_restoring_a_tree_writes_through_no_linked_folder(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"colored/box/a.jpg": grey_jpeg(1), "grey/other": b""})
    (tmp_path / "grey/box").symlink_to(elsewhere)
    before = content(elsewhere)

    assert run(["restore-grey", str(tmp_path / "colored"), "-o", str(tmp_path / "grey"), "--force"]) == EXIT_FAILURES
    assert f"{tmp_path}/grey/box is a link" in capsys.readouterr().err
    assert content(elsewhere) == before


def test_a_log_replaces_a_link_planted_after_the_check(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "_colorize").mkdir()
    (tmp_path / LOG_NAME).symlink_to(elsewhere / "notes.txt")
    with run_log(Storage(tmp_path)):
        pass

    assert (elsewhere / "notes.txt").read_bytes() == THEIRS
    assert not (tmp_path / LOG_NAME).is_symlink()


# The lock


def test_a_reader_of_an_output_cannot_hold_its_lock(tmp_path: Path) -> None:
    reader = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_EX)
    try:
        with exclusive(Storage(tmp_path)):
            assert stat.S_IMODE((tmp_path / LOCK).stat().st_mode) == 0o600
    finally:
        os.close(reader)


def test_a_lock_excludes_other_runs_and_is_removed(tmp_path: Path) -> None:
    with exclusive(Storage(tmp_path)), pytest.raises(UsageError, match="another run writes"):
        exclusive(Storage(tmp_path)).__enter__()
    with exclusive(Storage(tmp_path)):
        pass

    assert not (tmp_path / LOCK).exists()


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    program = """
        import sys, time
        from colorize.storage.lock import exclusive
        from colorize.storage.root import Storage
        with exclusive(Storage(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another run writes"):
            exclusive(Storage(tmp_path)).__enter__()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / LOCK).exists()  # no longer locked
    with exclusive(Storage(tmp_path)):
        pass


def test_a_lock_file_replaced_while_waiting_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking the file, the earlier run ends and removes it."""
    opened = LocalRoot.open_private
    stale: list[int] = []

    def open_and_lose_the_first(root: LocalRoot, name: str) -> int:
        descriptor = opened(root, name)
        if not stale:
            stale.append(descriptor)
            (tmp_path / LOCK).unlink()
        return descriptor

    monkeypatch.setattr(LocalRoot, "open_private", open_and_lose_the_first)
    with exclusive(Storage(tmp_path)):
        assert (tmp_path / LOCK).exists()
        monkeypatch.undo()
        with pytest.raises(UsageError, match="another run writes"):
            exclusive(Storage(tmp_path)).__enter__()


def test_buckets_have_neither_links_nor_locks(s3: S3) -> None:
    root = Storage(f"s3://colored/{secrets.token_hex(6)}")
    root.write("_colorize/run.json", b"{}")
    root.require_no_links("_colorize", "run.json")
    with exclusive(root), exclusive(root):
        pass
    with run_log(root):
        pass

    assert not root.is_linked_folder("_colorize")
    assert [entry.name for entry in root.entries()] == ["_colorize/run.json", "_colorize/run.log"]
