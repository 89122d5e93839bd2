"""Folds batch normalization into the preceding convolution.

Saves a tenth of the CPU time in float32 (docs/study.md). Not for bfloat16, where folded weights lose precision.
"""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fused(model: nn.Module) -> nn.Module:
    """A copy of a network in eval mode whose (convolution, batch norm) pairs are fused; the network itself without any.

    Pairs are neighbors in an `nn.Sequential`, or attributes `conv` and `norm`. Other tensors share memory with the
    original.
    """
    if not any(_pairs(module) for module in model.modules()):
        return model
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    model = copy.deepcopy(model, shared)
    for module in model.modules():
        for conv, norm in _pairs(module):
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    return model


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of the children to fuse."""
    children = list(module.named_children())
    if not isinstance(module, nn.Sequential):
        children = [(name, child) for name, child in children if name in ("conv", "norm")]
    return [
        (first, second)
        for (first, conv), (second, norm) in itertools.pairwise(children)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]
