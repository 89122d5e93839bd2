"""Color hints: the file formats, and that a hinted color appears in the output."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.datasets.hints import Hint, Hints, read_hints
from colorize.errors import UsageError
from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats.formats import ImageInfo
from colorize.imaging.hinting import Hinted, apply_hints, hint_planes
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.predict.torch_network import torch_colorizer
from colorize.storage.root import Storage
from tests.small_models import SMALL_ARGS

TOLERANCE = 3.0  # Lab units, if the color is in gamut at that lightness
JPEG_TOLERANCE = 6.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained siggraph17: hints are applied by the colorizer, not by the network."""
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("model") / "small.safetensors"
    args = SMALL_ARGS["siggraph17"]
    target.write_bytes(dump_checkpoint(create_model("siggraph17", **args), name="siggraph17", args=args))
    return target


@pytest.fixture
def scan(astronaut: Image.Image, tmp_path: Path) -> Path:
    grey = astronaut.convert("L").resize((400, 300))
    soft = grey.point(lambda v: 90 + v * 0.3)  # mid-tones, where the hinted colors are in gamut
    soft.save(tmp_path / "scan.png")
    soft.save(tmp_path / "scan.jpg", quality=92)
    return tmp_path / "scan.png"


def write(folder: Path, *rows: str) -> Path:
    (folder / "hints.csv").write_text("\n".join(["path,x,y,color", *rows]))
    return folder / "hints.csv"


def ab_at(image: Path | bytes, x: int, y: int) -> list[float]:
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    rgb = torch.from_numpy(np.array(Image.open(source).convert("RGB"))).permute(2, 0, 1) / 255
    return list(map(float, rgb_to_lab(rgb)[1:, y, x]))


class TestFiles:
    def test_csv_and_json_are_equivalent(self, tmp_path: Path) -> None:
        csv = write(tmp_path, "a.jpg, 10, 20, #b03060", "b/c.png,1.5,2,maroon", '"a.jpg",3,4,"rgb(1, 2, 3)"')
        entries = [
            {"path": "a.jpg", "x": 10, "y": 20, "color": "#b03060"},
            {"path": "b/c.png", "x": 1.5, "y": 2, "color": "maroon"},
            {"path": "a.jpg", "x": 3, "y": 4, "color": "rgb(1, 2, 3)"},
        ]
        (tmp_path / "hints.json").write_text(json.dumps(entries))
        assert read_hints(str(csv)) == read_hints(str(tmp_path / "hints.json"))
        assert [(hint.x, hint.y) for hint in read_hints(str(csv)).of["a.jpg"]] == [(10, 20), (3, 4)]

    @pytest.mark.parametrize("color", ["#ff0000", "#00f", "maroon", "rgb(12, 200, 99)", "hsl(30, 50%, 40%)", "#777"])
    def test_hint_colors_are_converted_to_lab(self, color: str, tmp_path: Path) -> None:
        (hint,) = read_hints(str(write(tmp_path, f'a,0,0,"{color}"'))).of["a"]
        Image.new("RGB", (1, 1), color).save(tmp_path / "one.png")
        assert [hint.a, hint.b] == pytest.approx(ab_at(tmp_path / "one.png", 0, 0), abs=0.01)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("a.jpg,1,2,blurple", r"line 2 of .*hints\.csv: 'blurple' is not a color"),
            ("a.jpg,left,2,red", r"line 2 of .*x='left', y='2' are not pixel"),
            ("a.jpg,1,2", "line 2 of .* is not a hint: it needs path, x, y and color"),
            (",1,2,red", "line 2 of .* is not a hint"),
            (f"{'a' * 200_000},1,2,red", "not valid CSV: field larger than"),
            (f"a,1,2,{'r' * 200}", "'r{80}' is not a color"),
            ('a,1,2,"rgb(256,0,0)"', "is not a color"),
            ('a,1,2,"hsl(0,900%,50%)"', "is not a color"),
        ],
    )
    def test_errors_are_one_line(self, row: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            read_hints(str(write(tmp_path, row)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        ["[1, 2]", '[{"path": "a"}]', "[", '{"path": 1}', f'[{{"path":"a","x":{10**400},"y":1,"color":"red"}}]'],
        ids=["numbers", "no hint", "cut", "no list", "a number without end"],
    )
    def test_json_of_another_structure_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "h.json").write_text(text)
        with pytest.raises(UsageError, match=r"h\.json"):
            read_hints(str(tmp_path / "h.json"))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"cannot read the hints .*gone\.csv"):
            read_hints(str(tmp_path / "gone.csv"))


class TestPlanes:
    def test_hints_are_mapped_to_the_covered_part_of_the_canvas(self) -> None:
        spots = np.array([[0.5, 0.25, 30, -40]], np.float32)
        ab, mask = hint_planes([spots, spots[:0]], [(40, 60), (64, 64)], (64, 64))
        assert np.argwhere(mask[0, 0]).mean(axis=0).tolist() == [10, 30]
        assert ab[0, :, 10, 30].tolist() == [30, -40]
        assert not mask[1].any()
        assert (ab * (1 - mask) == 0).all()

    def test_colors_match_each_hint_and_are_unchanged_far_away(self) -> None:
        ab = np.random.default_rng(0).normal(0, 20, (2, 40, 60)).astype(np.float32)
        spots = np.array([[0.2, 0.5, 50, 10], [0.26, 0.5, -50, 10], [0.999, 0.0, 0, 70]], np.float32)
        held = apply_hints(ab, spots)
        for x, y, *color in spots:
            assert held[:, int(y * 40), int(x * 60)].tolist() == pytest.approx(color, abs=0.5)
        assert np.abs(held - ab)[:, :, 32:48].max() < 0.01

    def test_a_hint_may_lie_in_the_last_half_of_the_last_pixel(self) -> None:
        hints = Hints({"a.jpg": (Hint(639.7, 479.9, "red", 50, 40),)})
        spots = hints.spots("a.jpg", ImageInfo("JPEG", "L", 640, 480, 8, 1, 1))
        assert apply_hints(np.zeros((2, 48, 64), np.float32), spots)[:, 47, 63].tolist() == pytest.approx(
            [50, 40], abs=0.5
        )

    def test_networks_without_hint_inputs_get_none(self) -> None:
        colorizer = torch_colorizer(create_model("lab_cnn", widths=[8, 8, 8]), size=32, precision="float32")
        with pytest.raises(ValueError, match="LabCnn takes no color hints"):
            colorizer([Hinted(np.zeros((32, 32), np.uint8), np.zeros((1, 4), np.float32))])


class TestPhoto:
    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "tolerance"), [("scan.png", TOLERANCE), ("scan.jpg", JPEG_TOLERANCE)])
    def test_a_hint_survives_to_the_output(self, scan: Path, checkpoint: Path, name: str, tolerance: float) -> None:
        source = scan.with_name(name)
        places = {(60, 40): "#a06050", (300, 200): "#507050", (399, 299): "#606080"}
        hints = write(scan.parent, *(f"{source},{x},{y},{color}" for (x, y), color in places.items()))
        target = scan.parent / f"out{source.suffix}"
        assert run(["photo", str(source), "-o", str(target), "--model", str(checkpoint), "--hints", str(hints)]) == 0
        wanted = {(hint.x, hint.y): (hint.a, hint.b) for hint in read_hints(str(hints)).of[str(source)]}
        for x, y in places:
            assert np.hypot(*np.subtract(ab_at(target, x, y), wanted[x, y])) < tolerance
        assert (grey_pixels(target) == grey_pixels(source)).all() or source.suffix == ".jpg"

    @pytest.mark.slow
    def test_coordinates_are_those_of_the_upright_image(self, scan: Path, checkpoint: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # displayed rotated by 90 degrees: 300 x 400
        Image.open(scan).save(scan.with_name("turned.png"), exif=exif)
        source, target = scan.with_name("turned.png"), scan.with_name("out.png")
        hints = write(scan.parent, f"{source},250,380,#a06050")
        assert run(["photo", str(source), "-o", str(target), "--model", str(checkpoint), "--hints", str(hints)]) == 0
        (hint,) = read_hints(str(hints)).of[str(source)]
        stored_x, stored_y = 380, 299 - 250
        assert np.hypot(*np.subtract(ab_at(target, stored_x, stored_y), (hint.a, hint.b))) < TOLERANCE

    @pytest.mark.slow
    def test_a_hint_outside_the_image_fails_only_that_image(
        self, scan: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hints = write(scan.parent, f"{scan},400,10,red")
        words = ["photo", str(scan), "-o", str(scan.parent / "out"), "--model", str(checkpoint), "--hints", str(hints)]
        assert run(words) == EXIT_FAILURES
        assert "x=400, y=10 is outside the image, which is 400 x 300 pixels" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("model", "row", "message"),
        [
            ("default", "{scan},1,1,red", "a unet takes no color hints; choose siggraph17"),
            ("{checkpoint}", "other.png,1,1,red", "'other.png', which is not an input"),
        ],
    )
    def test_unsupported_hints_are_refused(
        self, scan: Path, checkpoint: Path, model: str, row: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hints = write(scan.parent, row.format(scan=scan))
        words = ["--model", model.format(checkpoint=checkpoint), "--hints", str(hints), "-o", str(scan.parent / "out")]
        assert run(["photo", str(scan), *words]) == EXIT_USAGE
        assert message in capsys.readouterr().err


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_bulk_applies_hints_and_redoes_images_whose_hints_change(scan: Path, checkpoint: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "scans", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png"):
        (source / name).write_bytes(scan.read_bytes())
    words = ["bulk", "--input", str(source), "--output", str(target), "--model", str(checkpoint)]
    assert run(words) == 0
    hints = write(tmp_path, "b.png,60,40,#a06050")
    assert run([*words, "--hints", str(hints)]) == 0

    rows = {row["path"]: row for row in read_manifest(Storage(str(target))).to_pylist()}
    (hint,) = read_hints(str(hints)).of["b.png"]
    assert (rows["a.png"]["run"], rows["b.png"]["run"]) == (1, 2)
    assert np.hypot(*np.subtract(ab_at(target / "b.png", 60, 40), (hint.a, hint.b))) < TOLERANCE

    write(tmp_path, "b.png,999,40,red")
    assert run([*words, "--hints", str(hints)]) == EXIT_FAILURES
    rows = {row["path"]: row for row in read_manifest(Storage(str(target))).to_pylist()}
    assert (rows["b.png"]["error"], rows["a.png"]["status"]) == ("bad_hint", "ok")


def grey_pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def test_endless_hints_files_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "hints.json").open("wb") as file:
        file.truncate(7 << 40)
    with pytest.raises(UsageError, match=r"at most 16,777,216 are read"):
        read_hints(str(tmp_path / "hints.json"))
