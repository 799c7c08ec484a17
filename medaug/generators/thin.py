"""The convolutions beside the patch, where there are one or two channels only, quicker on a CPU.

A convolution of stride 2 that begins or ends at a single channel is written for few processors to
do well: the gradient by a patch takes ten times as long as the arithmetic would. The same sums are
those of a convolution of stride 1 over squares of 2 x 2 pixels, each taken as a point with four
channels (Shi et al. 2016 [1]_ draw images so), whose weights are those of the original, moved. The
weights themselves, and so what is saved, stay as they are.

.. [1] Real-time single image and video super-resolution using an efficient sub-pixel
   convolutional neural network, arXiv:1609.05158
"""

from __future__ import annotations

from torch import Tensor, channels_last, nn
from torch.nn import functional


class _FromPatch(nn.Conv2d):
    """A convolution of stride 2, kernel 4 or 5."""

    def forward(self, images: Tensor) -> Tensor:
        """(n, channel, row, column) of even sides → (n, size, row / 2, column / 2)."""
        squares = functional.pixel_unshuffle(images, 2).contiguous(memory_format=channels_last)
        return functional.conv2d(squares, _of_squares(self.weight), self.bias, padding=1)


class _ToPatch(nn.ConvTranspose2d):
    """A transposed convolution of stride 2, kernel 4 or 5."""

    def forward(self, features: Tensor, _: list[int] | None = None) -> Tensor:
        """(n, size, row, column) → (n, channel, 2 row, 2 column)."""
        squares = functional.conv_transpose2d(features, _of_squares(self.weight), padding=1)
        assert self.bias is not None
        return functional.pixel_shuffle(squares, 2) + self.bias.view(1, -1, 1, 1)


def exchange(ladder: nn.Sequential) -> None:
    """Let the layer that takes or gives a patch, if any, be of the quicker kind."""
    first, last = ladder[0], ladder[-1]
    # Another method for the same weights: nothing else in the layer changes.
    if type(first) is nn.Conv2d:
        first.__class__ = _FromPatch
    if type(last) is nn.ConvTranspose2d:
        last.__class__ = _ToPatch


def _of_squares(weight: Tensor) -> Tensor:
    """(size, channel, kernel, kernel) → (size, 4 channel, 3, 3), 0 where the kernel ends."""
    size, channels, kernel, _ = weight.shape
    before = 2 - (kernel - 1) // 2
    whole = functional.pad(weight, (before, 6 - kernel - before) * 2)
    split = whole.view(size, channels, 3, 2, 3, 2)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(size, 4 * channels, 3, 3)
