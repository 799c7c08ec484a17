"""How alike are patches of one set to one another: the mirror image of diversity.

The mean multi-scale structural similarity (MS-SSIM [1]_) of pairs, of one class and of different
patients. A generator that draws few pictures has a higher one than real patches (Odena et al.
[2]_). Five scales need 176 pixels; a smaller patch gets as many as leave 11 pixels, the width of
the window, at the coarsest, with the weights of the first scales. Adjacent slices are averaged; of
a 3-D patch the middle slice is looked at.

>>> scales(32), scales(64), scales(128), scales(256)
(2, 3, 4, 5)

.. [1] Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216; computed by MONAI
.. [2] Odena, Olah and Shlens 2017, arXiv:1610.09585
"""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.typing import NDArray

from medaug.domain import central

Images = NDArray[np.float32]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11


def scales(side: int) -> int:
    """How many scales a patch whose shorter side is ``side`` has room for; 0 below 11 pixels."""
    # Halved h times, a side must leave the window; MONAI asks for h² windows besides.
    return sum(
        side // max(2**halvings, halvings**2) >= _WINDOW for halvings in range(len(_WEIGHTS))
    )


def similarities(first: Images, second: Images) -> NDArray[np.float64]:
    """MS-SSIM of each pair (first[i], second[i]).

    Args:
        first: (pair, channel, row, column) or (pair, 1, slice, row, column) on [-1, 1], at least
            11 x 11.
        second: the same.

    Returns:
        (pair,), averaged over channels.
    """
    count = scales(min(first.shape[-2:]))
    if not count:
        raise ValueError(f"structural similarity needs 11 x 11 pixels, got {first.shape[-2:]}")
    weights = np.array(_WEIGHTS[:count]) / sum(_WEIGHTS[:count])
    planes = [
        torch.from_numpy(np.ascontiguousarray(each, np.float32)).flatten(0, 1)[:, None]
        for each in ((central(first), central(second)) if first.ndim == 5 else (first, second))
    ]
    metric = MultiScaleSSIMMetric(
        spatial_dims=2, data_range=2.0, kernel_size=_WINDOW, weights=tuple(weights)
    )
    with torch.no_grad():
        values = torch.as_tensor(metric(planes[0], planes[1])).double()
    return np.asarray(values.reshape(len(first), -1).mean(dim=1).numpy())
