"""What of a patch counts when patients vote: a fixed map that was fitted to nothing.

Mean intensity in eight rings about the centre (a lesion sits there: size and contrast), and the
logarithm of the standard deviation of three bands of detail, near the centre and away from it
(texture, noise, sharpness). Few numbers, because noise is spread over whatever votes see.

>>> looks(np.zeros((2, 1, 32, 32), np.float32)).shape
(2, 14)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_RINGS = 8
_BANDS = ((0.0, 0.011), (0.011, 0.023), (0.023, 0.047))  # Gaussians, as shares of the side
_FLOOR = 1e-3  # of a standard deviation; the window is 2 wide


def looks(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """(patch, 14) of images (patch, channel, row, column) in [-1, 1]; channels are averaged."""
    plain = images.astype(np.float64).mean(axis=1)
    rows, columns = plain.shape[1:]
    row, column = np.ogrid[:rows, :columns]
    radius = np.hypot((row + 0.5) / rows * 2 - 1, (column + 0.5) / columns * 2 - 1)
    ring = np.minimum((radius * _RINGS).astype(int), _RINGS - 1)
    found = [plain[:, ring == at].mean(axis=1) for at in range(_RINGS)]
    for fine, coarse in _BANDS:
        band = _smooth(plain, fine * rows) - _smooth(plain, coarse * rows)
        found += [
            np.log(np.maximum(band[:, where].std(axis=1), _FLOOR))
            for where in (radius < 0.5, radius >= 0.5)
        ]
    return np.stack(found, axis=1)


def _smooth(plain: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return np.asarray(ndimage.gaussian_filter(plain, (0, sigma, sigma)))
