"""The shipped network rewritten for ONNX Runtime, which computes it faster: equal to PyTorch's up to rounding.

Most of the gain is in the decoder. A 1x1 convolution commutes with upsampling, and a 3x3 convolution is the sum of nine
1x1 ones, each shifted by a pixel. So channels are convolved before they are upsampled, with a quarter of the
multiplications. Upsampling, shifting and summing are then one matrix for the rows and one for the columns, which only
depend on the size (`colorize.predict.onnx_network.upsampling`). From there on the layout is channels last, as matrix
products require. Sizes given by the weights are constants, since each node that computes a shape costs as much as a
small layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.imaging.color import grey_to_lightness
from colorize.models.unet import EVEN, FAR, Unet, fading
from colorize.models.unet_trunk import ContextBlock, UpBlock


class Graph(nn.Module):
    """Maps grey to color and uncertainty: the computation of `TorchNetwork` for a batch with a `Unet`."""

    lightness: Tensor

    def __init__(self, network: Unet) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("lightness", grey_to_lightness(torch.arange(256) / 255))

    def forward(self, grey_B1HW: Tensor, *matrices: Tensor) -> tuple[Tensor, Tensor]:
        """`matrices`: for each block of the decoder, coarsest first, `upsampling` of its input's height and width."""
        net, L_B1HW = self.network, self.lightness[grey_B1HW.int()]
        *skips, x_BChw = net.encoder(L_B1HW / 100)
        x_BChw = net.reduce(x_BChw)
        for block in net.context:
            x_BChw = attended(block, x_BChw)  # type: ignore[arg-type]
        x_BhwC, skips = x_BChw.permute(0, 2, 3, 1), skips[: -len(net.decoder) - 1 : -1]
        levels = zip(net.decoder, net.scales[:-1], skips, matrices[::2], matrices[1::2], strict=True)
        for block, inputs, skip, rows, columns in levels:
            x_BhwC = upsampled(block, inputs, x_BhwC, skip, rows, columns)  # type: ignore[arg-type]
        faded_B1hw = fading(F.avg_pool2d(L_B1HW, net.output_stride), net.shadows)
        return color_from(net, x_BhwC, faded_B1hw.permute(0, 2, 3, 1))


def attended(block: ContextBlock, x_BChw: Tensor) -> Tensor:
    """`ContextBlock.forward`."""
    channels = block.project.out_features
    x_BNC = _reshaped(x_BChw + block.position(x_BChw), (0, channels, -1)).transpose(1, 2)
    qkv = _reshaped(block.qkv(block.attention_norm(x_BNC)), (0, -1, 3, block.heads, channels // block.heads))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q * (channels // block.heads) ** -0.5 @ k.transpose(2, 3)).softmax(dim=-1)
    x_BNC = x_BNC + block.project(_reshaped((weights @ v).transpose(1, 2), (0, -1, channels)))
    x_BNC = x_BNC + block.mlp(block.mlp_norm(x_BNC))
    out: Tensor = x_BNC.transpose(1, 2).reshape_as(x_BChw)
    return out


def upsampled(block: UpBlock, inputs: int, x_BhwC: Tensor, skip_BCHW: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`UpBlock.forward`, channels last; `inputs`: x's channels; `rows`, `columns`: `upsampling` of h and w."""
    conv, norm = block.mix.conv, block.mix.norm
    outputs = conv.out_channels
    scale = norm.weight / torch.sqrt(norm.get_buffer("running_var") + norm.eps)
    bias = norm.bias - norm.get_buffer("running_mean") * scale
    weight_OIyx = conv.weight * scale.reshape(outputs, 1, 1, 1)
    taps_Ixyo = weight_OIyx[:, :inputs].permute(1, 3, 2, 0).reshape(inputs, 9 * outputs)
    x = columns @ _reshaped(x_BhwC @ taps_Ixyo, (0, 0, -1, 3 * outputs))  # (B, h, 2w, 3 * O)
    x = _reshaped(x, (0, 0, -1, 3, outputs)).transpose(2, 3)
    x = rows @ x.reshape(x.shape[0], rows.shape[1], -1)  # (B, 2h, 2w * O)
    skip = F.conv2d(skip_BCHW, weight_OIyx[:, inputs:], bias, padding=1).permute(0, 2, 3, 1)
    return (skip + _reshaped(x, (0, 0, -1, outputs))).clamp(0, 6)


def color_from(net: Unet, x_BhwC: Tensor, faded_Bhw1: Tensor) -> tuple[Tensor, Tensor]:
    """`Unet.color_from` and `Unet.uncertainty`."""
    logits_BhwQ = F.linear(x_BhwC, net.head.weight.flatten(1), net.head.bias)
    p_BhwQ, bins_Q2 = logits_BhwQ.softmax(dim=-1), net.bins_Q2
    # The logarithm of the softmax's denominator, from its largest term.
    normalizer = logits_BhwQ.amax(-1, keepdim=True) - p_BhwQ.amax(-1, keepdim=True).log()
    entropy = (normalizer - (p_BhwQ * logits_BhwQ).sum(-1, keepdim=True)) / math.log(len(bins_Q2))
    factor = (net.spread * (entropy - EVEN)).exp() * faded_Bhw1
    ab_Bhw2 = (logits_BhwQ * (1 / net.temperature)).softmax(dim=-1) @ bins_Q2 * factor
    # |ab - bin|^2 = |ab|^2 - 2 ab . bin + |bin|^2, as one product
    bins_Q4 = torch.cat((-2 * bins_Q2, torch.ones(len(bins_Q2), 1), _squares(bins_Q2)), dim=1)
    ab_Bhw4 = torch.cat((ab_Bhw2, _squares(ab_Bhw2), torch.ones_like(factor)), dim=-1)
    expected = (p_BhwQ * (ab_Bhw4 @ bins_Q4.T).relu().sqrt()).sum(-1, keepdim=True) * faded_Bhw1
    return ab_Bhw2.permute(0, 3, 1, 2), (expected / FAR).clamp(max=1).squeeze(-1)


def _squares(ab: Tensor) -> Tensor:
    return (ab * ab).sum(-1, keepdim=True)


def _reshaped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Reshapes `x`; a size of 0 keeps that dimension, as in ONNX."""
    out: Tensor = _Reshape.apply(x, sizes)
    return out


class _Reshape(torch.autograd.Function):
    """Exports as one ONNX node; PyTorch's exporter would add nodes that compute the shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int]) -> Tensor:
        return x.reshape([size or x.shape[axis] for axis, size in enumerate(sizes)])

    @staticmethod
    def symbolic(g: Any, x: Any, sizes: Sequence[int]) -> Any:
        return g.op("Reshape", x, g.op("Constant", value_t=torch.tensor(sizes)))
