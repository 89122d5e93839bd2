"""Settings: strict, frozen, and errors that name the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from colorize.bulk.settings import BulkSettings
from colorize.errors import UsageError
from colorize.settings import load_settings, save_settings
from colorize.train.settings import DataSettings
from scripts.default_configs import CONFIGS, FILES, documented


def test_defaults_need_no_file() -> None:
    assert load_settings(BulkSettings) == BulkSettings()


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("pool: {max: 3, min: 2}\ncolorizer: {size: 128}")
    settings = load_settings(BulkSettings, tmp_path / "c.yaml", ["pool.max=5", "source.include=['*.jpg']"])

    assert (settings.pool.min, settings.pool.max, settings.colorizer.size) == (2, 5, 128)
    assert settings.source.include == ("*.jpg",)


def test_a_string_is_a_list_of_one() -> None:
    assert load_settings(BulkSettings, overrides=["source.include=*.jpg"]).source.include == ("*.jpg",)
    assert load_settings(DataSettings, overrides=["labels=bird"]).labels == ["bird"]


def test_an_override_may_set_a_key_of_an_absent_group(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("split: null")
    settings = load_settings(DataSettings, tmp_path / "c.yaml", ["split.val=0.2"])

    assert settings.split is not None
    assert settings.split.val == 0.2


def test_resolved_settings_read_back_equal(tmp_path: Path) -> None:
    settings = load_settings(BulkSettings, overrides=["pool.max=2", "limits.max_pixels=1000"])
    (tmp_path / "resolved.yaml").write_text(save_settings(settings))

    assert load_settings(BulkSettings, tmp_path / "resolved.yaml") == settings


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        BulkSettings().pool.max = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pool.maxx=3", r"unknown setting 'pool.maxx' \(did you mean 'pool.max'\?\)"),
        ("poool.max=3", r"unknown setting 'poool' \(did you mean 'pool'\?\)"),
        ("batch_size=3", r"unknown setting 'batch_size' \(did you mean 'pool.batch_size'\?\)"),
        ("pool.max=0", "pool.max=0: input should be greater than or equal to 1"),
        ("pool.device=tpu", "pool.device='tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ("pool=3", "pool"),
        ("pool.max.x=3", "pool.max"),
        ("source.include=*.jpg, *.tif", r"source.include='\*.jpg, \*.tif': write a list like \['\*.jpg', '\*.tif'\]"),
        ("source.include=3", r"source.include=3: write a list like \['a', 'b'\]"),
        ("nonsense", "not of the form"),
        ("=3", "not of the form"),
    ],
)
def test_errors_are_one_line(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_settings(BulkSettings, overrides=[override])
    assert "\n" not in str(caught.value)


def test_a_string_that_looks_like_a_date_stays_a_string() -> None:
    assert load_settings(BulkSettings, overrides=["source.image_column=2026-99-99"]).source.image_column == "2026-99-99"


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pool.min=4 is above pool.max=2"):
        load_settings(BulkSettings, overrides=["pool.min=4", "pool.max=2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "is a list"),
        ("a: [", "not valid YAML"),
        ("a: 2026-02-31", "not valid YAML: day is out of range"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        (None, "cannot read"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings(BulkSettings, path)


def test_the_pixels_digest_depends_only_on_settings_that_change_pixels() -> None:
    plain = BulkSettings()
    faster = load_settings(BulkSettings, overrides=["pool.max=7", "run.log_seconds=1", "limits.max_pixels=9"])
    other = load_settings(BulkSettings, overrides=["colorizer.size=128"])

    assert plain.pixels_digest() == faster.pixels_digest()
    assert plain.pixels_digest() != other.pixels_digest()


@pytest.mark.parametrize("name", FILES)
def test_a_documented_configuration_is_the_complete_default(name: str) -> None:
    command, settings = FILES[name]
    text = (CONFIGS / name).read_text()

    assert text == documented(command, settings), "run `python -m scripts.default_configs`"
    assert yaml.safe_load(text) == settings().model_dump(mode="json")
    assert load_settings(settings, CONFIGS / name) == settings()


@pytest.mark.parametrize("text", ["4:2:0", "4:4:4", '"4:4:4"'])
def test_subsampling_may_be_written_without_quotes(text: str) -> None:
    settings = load_settings(BulkSettings, overrides=[f"output.subsampling={text}"])
    assert settings.output.subsampling == text.strip('"')


def test_every_setting_that_changes_an_output_is_in_the_digest() -> None:
    plain = BulkSettings().pixels_digest()
    for override in ("output.subsampling=4:4:4", "output.digital_source_type=trainedAlgorithmicMedia"):
        assert load_settings(BulkSettings, overrides=[override]).pixels_digest() != plain
    assert load_settings(BulkSettings, overrides=["output.write_threads=3"]).pixels_digest() == plain
