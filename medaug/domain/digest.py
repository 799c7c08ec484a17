"""One fingerprint for arrays, texts and settings.

>>> digest_of("a", [1, 2]) == digest_of("a", [1, 2])
True
>>> digest_of("ab") == digest_of("a", "b")
False
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np


def digest_of(*parts: Any) -> str:
    """SHA-256 (hex) over the parts; arrays by dtype, shape and little-endian bytes.

    Everything that is not an array is taken as canonical JSON. Each part is framed by its
    length, so parts cannot run into one another.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part)
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            head = f"array {array.dtype.str} {array.shape}".encode()
            # A view, not `tobytes`: an array that is mapped from a file is hashed as it streams by.
            body: bytes | memoryview = array.reshape(-1).view(np.uint8).data
        else:
            head = b"json"
            body = json.dumps(part, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()
        total.update(f"{len(head)}:{len(body)}:".encode())
        total.update(head)
        total.update(body)
    return total.hexdigest()
