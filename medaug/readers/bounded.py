"""Files that cannot be made to fill the memory by what they claim."""

from __future__ import annotations

import io
import os
from pathlib import Path

_SMALL = 1 << 16


class File(io.BufferedReader):
    """A file of which no read takes more memory than is left of it.

    A damaged length may claim gigabytes, and Python makes room for them before it reads; pydicom
    and Pillow ask for as much as a file says.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes."""
        if size is not None and size > _SMALL:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)
