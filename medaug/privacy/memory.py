"""How much memory the gate may take unless a setting says otherwise.

It is working memory, what is prepared of the training patches included. The patches themselves,
which the caller holds, and the samples that passed come on top.
"""

from __future__ import annotations

MEMORY_MB = 384
