"""The initial network: random, with a pretrained encoder, or from a checkpoint."""

from __future__ import annotations

from colorize.errors import UsageError
from colorize.models import ColorModel, create_model
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.train.settings import ModelSettings


def initial_network(settings: ModelSettings) -> ColorModel:
    """The initial network, on the CPU.

    Raises:
        UsageError: unknown model or argument, unusable `weights`, or `pretrained` is not available.
    """
    model = create_model(settings.name, **settings.args)
    if settings.weights is not None:
        _take_weights(model, settings, settings.weights)
    elif settings.pretrained:
        model.load_pretrained()
    return model


def _take_weights(model: ColorModel, settings: ModelSettings, weights: str) -> None:
    if settings.pretrained:
        raise UsageError(f"model.weights={weights} includes a trained encoder: set model.pretrained=false")
    checkpoint = load_checkpoint(find_model(weights).data)
    wanted, given = (settings.name, _shapes(model)), (checkpoint.name, _shapes(checkpoint.model))
    if wanted != given:
        raise UsageError(
            f"model.weights={weights} holds a {checkpoint.name} with the arguments {checkpoint.args}, "
            f"model asks for a {settings.name} with {settings.args}: set model.name and model.args to the former"
        )
    model.load_state_dict(checkpoint.model.state_dict())


def _shapes(model: ColorModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
