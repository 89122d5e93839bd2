"""The published networks: outputs and files of the original implementations, and refusal of others."""

from __future__ import annotations

import copy
import json
import math
import runpy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from colorize.errors import UsageError
from colorize.models import PublishedModel, create_model, published_models
from colorize.models.checkpoint import CheckpointError, dump_checkpoint, load_checkpoint, load_published
from colorize.models.color_queries import sine_positions
from colorize.models.eccv16 import Eccv16
from colorize.models.published import fold_spectral_norm
from colorize.models.siggraph17 import Siggraph17
from colorize.predict.model_files import find_model
from colorize.predict.torch_network import torch_colorizer
from tests.small_models import SMALL_ARGS

PARITY = Path(__file__).parents[3] / "shared/parity"
PARAMETERS = {"ddcolor_large": 227_866_256, "ddcolor_tiny": 55_005_104, "eccv16": 32_235_385, "siggraph17": 34_051_074}
needs_parity = pytest.mark.skipif(not PARITY.exists(), reason="needs the reference outputs beside the project")

State = dict[str, Tensor]


def small(name: str) -> PublishedModel:
    return copy.deepcopy(_small(name))


@cache
def _small(name: str) -> PublishedModel:
    torch.manual_seed(0)
    return cast(PublishedModel, create_model(name, **SMALL_ARGS[name]).eval())


def published_state(model: PublishedModel) -> State:
    """A state dict with the keys and shapes of the authors' file, spectral normalizations folded."""
    generator = torch.Generator().manual_seed(1)
    return {
        key: torch.tensor(1) if not shape else 0.1 + 0.1 * torch.rand(shape, generator=generator)
        for key, shape in model.published_shapes().items()
    }


def rand(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestTheAuthorsNumbers:
    @pytest.fixture
    def _without_numbers(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Large networks on the meta device, which takes no time."""
        monkeypatch.setattr("colorize.models.eccv16._bins", lambda: torch.empty(313, 2))
        with torch.device("meta"):
            yield

    @needs_parity
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("name", ["eccv16", "siggraph17", "ddcolor_tiny", "ddcolor_large"])
    def test_outputs_match_the_reference_implementation(self, name: str) -> None:
        network, shown = load_published(name, reference_weights(name)), reference_input(name)
        with torch.inference_mode():
            assert relative_error(network(shown), name) < 1e-5

    @needs_parity
    def test_batches_and_channels_last_do_not_change_outputs(self) -> None:
        network = load_published("siggraph17", reference_weights("siggraph17"))
        network = network.to(memory_format=torch.channels_last)
        shown = reference_input("siggraph17")
        batch = torch.cat((shown.flip(2), shown)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            assert relative_error(network(batch)[1:], "siggraph17") < 1e-5

    @needs_parity
    def test_hints_match_the_reference_implementation(self) -> None:
        network = load_published("siggraph17", reference_weights("siggraph17"))
        ab, mask = (rand(2, 1, 2, 256, 256) - 0.5) * 160, (rand(3, 1, 1, 256, 256) > 0.98).float()
        with torch.inference_mode():
            assert relative_error(network(rand(1, 1, 1, 256, 256) * 100, ab, mask), "siggraph17_hints") < 1e-5

    @pytest.mark.parametrize("name", published_models())
    @pytest.mark.usefixtures("_without_numbers")
    def test_the_number_of_parameters_matches_the_reference(self, name: str) -> None:
        """The parameters of the published files, without unused ones."""
        network = create_model(name)
        assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@cache
def reference_weights(name: str) -> State:
    """The stand-in weights of the references; the input's scale is ImageNet's."""
    reference = runpy.run_path(str(PARITY / "synthetic_weights.py"))
    shapes = json.loads((PARITY / f"{name}.shapes.json").read_text())
    weights: State = reference["synthetic_state_dict"](shapes)
    return weights


def reference_input(name: str) -> Tensor:
    image = rand(1, 1, 1, 256, 256)
    return image.repeat(1, 3, 1, 1) if name.startswith("ddcolor") else image * 100


def relative_error(ab: Tensor, name: str) -> float:
    expected = torch.from_numpy(np.load(PARITY / f"{name}.npz")["ab"])
    return float((ab - expected).norm() / expected.norm())


class TestEveryPublishedNetwork:
    @pytest.fixture(params=published_models())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.mark.parametrize("shape", [(64, 96), (50, 41), (33, 7)])
    def test_any_size_is_kept(self, name: str, shape: tuple[int, int]) -> None:
        with torch.inference_mode():
            assert small(name)(rand(0, 2, 1, *shape) * 100).shape == (2, 2, *shape)

    def test_a_larger_canvas_changes_the_center_only_through_context(self, name: str) -> None:
        """A flat image has the same color at every size: no normalization depends on the size."""
        with torch.inference_mode():
            centers = [
                small(name)(torch.full((1, 1, side, side), 60.0))[0, :, side // 2, side // 2] for side in (192, 256)
            ]
        torch.testing.assert_close(*centers, atol=0.05, rtol=0.05)

    def test_it_loads_the_published_state_dict_layout(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        state, network = published_state(small(name)), loaded_small(name, monkeypatch)(published_state(small(name)))
        assert not network.training
        for key, value in network.state_dict().items():
            if key in state:
                assert torch.equal(value, state[key])

    def test_weights_under_params_and_in_half_precision_are_accepted(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load, state = loaded_small(name, monkeypatch), published_state(small(name))
        half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        whole, halved = load(state).state_dict(), load({"params": half}).state_dict()
        for key, value in whole.items():
            assert halved[key].dtype == value.dtype
            torch.testing.assert_close(halved[key], value, atol=2e-4 * 110, rtol=1e-3)

    def test_missing_keys_are_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        load, state = loaded_small(name, monkeypatch, shared=True), published_state(_small(name))
        for key in state:
            with pytest.raises(CheckpointError, match="it lacks " + key.replace(".", r"\.")):
                load({other: value for other, value in state.items() if other != key})

    def test_unknown_keys_and_wrong_shapes_are_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        load, state = loaded_small(name, monkeypatch, shared=True), published_state(_small(name))
        with pytest.raises(CheckpointError, match=r"has unknown surprise$"):
            load({**state, "surprise": torch.zeros(1)})
        for key in state:
            with pytest.raises(CheckpointError, match=rf"a wrong shape of {key} \(3, 1\)".replace(".", r"\.")):
                load({**state, key: torch.zeros(3, 1)})

    def test_it_colors_images_with_confidence(self, name: str) -> None:
        colorizer = torch_colorizer(small(name), size=64, precision="float32")
        (colored,) = colorizer.color([np.full((50, 70), 128, np.uint8)], confidence=True)
        assert np.isfinite(colored.ab).all()
        assert 0 < colored.confidence <= 1


def loaded_small(name: str, monkeypatch: pytest.MonkeyPatch, shared: bool = False) -> Callable[[Any], PublishedModel]:
    """`load_published` for a network small enough for tests, `shared` if no weights are loaded."""
    monkeypatch.setattr("colorize.models.checkpoint.create_model", _small if shared else small)
    return lambda state: load_published(name, state)


class TestSpectralNormalization:
    def test_folding_spectral_norm_matches_torch(self) -> None:
        torch.manual_seed(0)
        layers = nn.Sequential(spectral_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), spectral_norm(nn.Linear(6, 4, bias=False)))
        layers(torch.rand(2, 3, 3, 8))  # training mode updates u and v
        layers.eval()
        plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(6, 4, bias=False)).eval()
        plain.load_state_dict(fold_spectral_norm(layers.state_dict()), strict=True)
        image = torch.rand(2, 3, 5, 8)
        torch.testing.assert_close(plain(image), layers(image))

    @pytest.mark.parametrize("suffix", ["orig", "u", "v"])
    def test_an_incomplete_spectral_norm_triple_is_named(self, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        load, state = normalized_ddcolor(monkeypatch)
        del state[f"refine_net.0.0.weight_{suffix}"]
        with pytest.raises(CheckpointError, match=r"refine_net\.0\.0\.weight"):
            load(state)

    @pytest.mark.parametrize("suffix", ["orig", "u", "v"])
    def test_a_spectral_norm_triple_of_wrong_shape_is_named(self, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        load, state = normalized_ddcolor(monkeypatch)
        state[f"refine_net.0.0.weight_{suffix}"] = torch.ones(5, 7)
        with pytest.raises(CheckpointError, match=rf"refine_net\.0\.0\.weight_{suffix} \(5, 7\)"):
            load(state)

    def test_a_complete_spectral_norm_triple_loads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load, state = normalized_ddcolor(monkeypatch)
        original = state["refine_net.0.0.weight_orig"]
        weight = load(state).state_dict()["refine_net.0.0.weight"]
        torch.testing.assert_close(weight, original / torch.linalg.matrix_norm(original.flatten(1), 2))


def normalized_ddcolor(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[Any], PublishedModel], State]:
    state = published_state(small("ddcolor_tiny"))
    weight = state.pop("refine_net.0.0.weight")
    u, _, v = torch.linalg.svd(weight.flatten(1))
    state |= {
        "refine_net.0.0.weight_orig": weight, "refine_net.0.0.weight_u": u[:, 0], "refine_net.0.0.weight_v": v[0],
    }  # fmt: skip
    return loaded_small("ddcolor_tiny", monkeypatch), state


class TestFiles:
    @pytest.fixture
    def state(self) -> State:
        return published_state(small("siggraph17"))

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = create_model
        monkeypatch.setattr(
            "colorize.models.checkpoint.create_model", lambda name, **args: real(name, **(args or SMALL_ARGS[name]))
        )

    def test_pth_and_safetensors_hold_the_same(self, state: State, tmp_path: Path) -> None:
        torch.save({"params": state}, tmp_path / "a.pth")
        save_file(state, tmp_path / "b.safetensors")
        first, second = (load_published("siggraph17", tmp_path / file) for file in ("a.pth", "b.safetensors"))
        third = load_published("siggraph17", (tmp_path / "a.pth").read_bytes())
        for key, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[key])
            assert torch.equal(value, third.state_dict()[key])

    def test_code_in_a_pickle_never_runs(self, tmp_path: Path) -> None:
        torch.save({"params": Harmful(tmp_path / "harm")}, tmp_path / "evil.pth")
        with pytest.raises(CheckpointError, match=r"evil\.pth: the file holds more than weights"):
            load_published("siggraph17", tmp_path / "evil.pth")
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("data", [b"", b"no weights", b"\x10\0\0\0\0\0\0\0{garbage", b"PK\x03\x04 no zip"])
    def test_a_file_other_than_weights_is_refused_in_one_line(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.pth").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"x\.pth") as caught:
            load_published("siggraph17", tmp_path / "x.pth")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("state", [{"epoch": 3}, [1, 2], {"params": {"a": "text"}}])
    def test_an_object_other_than_a_state_dict_is_refused(self, state: object, tmp_path: Path) -> None:
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match="is not a state dict"):
            load_published("siggraph17", tmp_path / "x.pth")

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(CheckpointError, match=r"gone\.pth: No such file"):
            load_published("siggraph17", "gone.pth")

    def test_a_network_without_published_weights_is_refused(self) -> None:
        with pytest.raises(
            UsageError, match=r"no published weights fit a model 'siggraph' \(did you mean 'siggraph17'"
        ):
            load_published("siggraph", {})
        with pytest.raises(UsageError, match="no published weights fit a model 'unet'"):
            load_published("unet", {})

    def test_a_command_accepts_weights_as_name_and_file(self, state: State, tmp_path: Path) -> None:
        torch.save(state, tmp_path / "w.pth")
        found = find_model(f"siggraph17={tmp_path}/w.pth")
        assert (found.name, found.architecture) == (f"siggraph17={tmp_path}/w.pth", "siggraph17")
        assert found.sha256 == find_model(f"siggraph17={tmp_path}/w.pth").sha256
        assert load_checkpoint(found.data).sha256 == found.sha256

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("siggraph17=gone.pth", r"cannot read the weights gone\.pth"),
            ("siggraph=w.pth", "no published weights fit a model 'siggraph'"),
            ("w.pth", r"give the name of their network: siggraph17=w\.pth"),
        ],
    )
    def test_a_command_reports_what_is_wrong_with_a_model(
        self, state: State, model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save(state, "w.pth")
        with pytest.raises(UsageError, match=message):
            find_model(model)

    def test_a_path_with_an_equals_sign_is_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("lr=1").mkdir()
        Path("lr=1/best.safetensors").write_bytes(
            dump_checkpoint(small("eccv16"), name="eccv16", args=SMALL_ARGS["eccv16"])
        )
        assert find_model("lr=1").architecture == "eccv16"


class Harmful:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.target,)


class TestEccv16:
    def test_colors_are_the_mean_over_the_bins_in_the_file(self) -> None:
        network = small("eccv16")
        state = published_state(network)
        network.load_state_dict(network.from_published(state))
        logits = rand(3, 1, 313, 2, 3) * 5
        weight = state["model_out.weight"]
        expected = nn.functional.conv2d(logits.softmax(1), weight) * 110
        assert isinstance(network, Eccv16)
        torch.testing.assert_close(network.decode(logits), expected)

    def test_the_colorizer_gets_colors_before_upsampling(self) -> None:
        network = small("eccv16")
        L = rand(0, 1, 1, 64, 96) * 100
        with torch.inference_mode():
            enlarged = nn.functional.interpolate(network.color(L), scale_factor=4, mode="bilinear")
            torch.testing.assert_close(network(L), enlarged)

    def test_a_new_network_has_the_published_number_of_bins(self) -> None:
        bins = Eccv16(width=8).bins_Q2
        assert bins.shape == (313, 2)
        assert len({tuple(b) for b in bins.tolist()}) == 313
        assert (bins % 10 == 0).all()
        assert bins.abs().max() <= 120
        assert [0.0, 0.0] in bins.tolist()


class TestSiggraph17:
    def test_no_hints_equal_an_empty_hint_mask(self) -> None:
        network, L = small("siggraph17"), rand(0, 1, 1, 64, 64) * 100
        with torch.inference_mode():
            torch.testing.assert_close(network(L), network(L, rand(1, 1, 2, 64, 64) * 99, torch.zeros(1, 1, 64, 64)))

    def test_a_hint_changes_colors_around_it(self) -> None:
        network, L = small("siggraph17"), rand(0, 1, 1, 64, 64) * 100
        mask = torch.zeros(1, 1, 64, 64)
        mask[:, :, 20, 30] = 1
        with torch.inference_mode():
            changed = (network(L, torch.full((1, 2, 64, 64), 80.0), mask) - network(L)).abs().amax(dim=1)[0]
        assert changed[20, 30] > 1e-4

    def test_outputs_are_bounded_by_110(self) -> None:
        network = Siggraph17(width=8).eval()
        with torch.no_grad():
            network.state_dict()["model_out.0.bias"].fill_(1e6)
            assert network(rand(0, 1, 1, 16, 16) * 100).max() == pytest.approx(110)


class TestDdcolor:
    def test_lightness_and_grey_image_inputs_are_equivalent(self) -> None:
        network, grey = small("ddcolor_tiny"), rand(0, 1, 1, 64, 64)
        from colorize.imaging.color import grey_to_lightness

        with torch.inference_mode():
            torch.testing.assert_close(network(grey_to_lightness(grey)), network(grey.repeat(1, 3, 1, 1)))

    def test_position_encodings_are_the_published_sines(self) -> None:
        positions = sine_positions((3, 5), 8, torch.zeros(1))
        y, x = 2 / (3 + 1e-6) * 2 * math.pi, 4 / (5 + 1e-6) * 2 * math.pi
        expected = [f(value / 10_000 ** (i / 4)) for value in (y, x) for i in (0, 2) for f in (math.sin, math.cos)]
        assert positions.shape == (15, 8)
        assert positions[1 * 5 + 3].tolist() == pytest.approx(expected, abs=1e-5)
