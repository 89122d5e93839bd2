"""FID and LPIPS with supplied networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from colorize.errors import UsageError
from colorize.evaluate.settings import MeasureSettings
from colorize.evaluate.supplied import Inception, Lpips, Supplied, read_supplied


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torchvision's format."""
    return random_alexnet(tmp_path_factory.mktemp("alexnet") / "alexnet.pth")


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of FID's Inception."""
    return random_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


def random_alexnet(path: Path) -> Path:
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.alexnet(weights=None).state_dict(), path)
    return path


def random_inception(path: Path) -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state_dict: object, strict: bool = True, assign: bool = False) -> None:
            """Stays random."""

    torch.manual_seed(0)
    torch.save({}, path)
    torch.save(Untrained("random", ["2048"], feature_extractor_weights_path=path).state_dict(), path)
    return path


def read(**paths: Path) -> Supplied:
    return read_supplied(MeasureSettings.model_validate({name: str(path) for name, path in paths.items()}))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand((2, 3, 96, 96), generator=torch.Generator().manual_seed(1))


def test_without_supplied_weights_the_metric_is_skipped() -> None:
    assert read() == Supplied()
    assert read().identities() == {}


@pytest.mark.slow
def test_lpips_uses_the_supplied_trunk(alexnet: Path, images: torch.Tensor) -> None:
    from torchvision import models

    weights = read(lpips_weights=alexnet).alexnet
    assert weights is not None
    network = Lpips(weights)
    trunk = models.alexnet(weights=None)
    trunk.load_state_dict(torch.load(alexnet, weights_only=True))
    scaled = network.network.scaling_layer(2 * images - 1)
    ours = network.network.net(scaled)[-1]
    torch.testing.assert_close(ours, trunk.features[:12](scaled))
    assert network(images, images).tolist() == [0, 0]
    assert (network(images, images.flip(0)) > 0).all()


@pytest.mark.slow
def test_inception_returns_the_features_of_fid(inception: Path, images: torch.Tensor) -> None:
    weights = read(fid_weights=inception).inception
    assert weights is not None
    network = Inception(weights)
    pooled = []
    network.network.AvgPool.register_forward_hook(lambda _module, _inputs, output: pooled.append(output.flatten(1)))
    assert network(images).shape == (2, 2048)
    torch.testing.assert_close(network(images), pooled[-1])


@pytest.mark.slow
def test_the_weights_file_is_identified_by_hash(alexnet: Path) -> None:
    found = read(lpips_weights=alexnet).identities()
    assert found.keys() == {"lpips"}
    assert len(found["lpips"]["sha256"]) == 64


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Mine:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save(Mine(), tmp_path / "evil.pth")
    with pytest.raises(UsageError, match=r"evil\.pth is not a weights file"):
        read(fid_weights=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["fid_weights", "lpips_weights"])
def test_tensors_that_share_storage_are_refused(setting: str, tmp_path: Path) -> None:
    shared = torch.zeros(1 << 20)
    states: list[object] = [
        {"features.w": torch.zeros(1).expand(1 << 40)},
        {f"features.{i}": shared for i in range(100)},
        {"features.w": torch.empty(1 << 40, device="meta")},
        {1: torch.zeros(1), "features.w": torch.zeros(1)},
    ]
    for state in states:
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(UsageError, match=r"w\.pth"):
            read(**{setting: tmp_path / "w.pth"})


@pytest.mark.parametrize("setting", ["fid_weights", "lpips_weights"])
def test_weights_of_another_architecture_are_refused(setting: str, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UsageError, match=rf"measure\.{setting}=.*other\.pth are not the weights of"):
        read(**{setting: tmp_path / "other.pth"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.pth cannot be read: No such file"):
        read(fid_weights=tmp_path / "nothing.pth")
