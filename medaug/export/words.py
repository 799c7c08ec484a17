"""What a release says of itself, and what it never says.

>>> forbidden_words("Fully anonymised and SAFE, no unsafe step")
['anonymised', 'SAFE']
"""

from __future__ import annotations

import re
from typing import Final

NOTICE: Final = "SYNTHETIC - NOT FOR DIAGNOSTIC USE"

MODES = {
    "empirical": "Filters and checks saw training data; their figures stand in this release. "
    "There is no differential-privacy guarantee.",
}
"""What each mode of review may claim, word for word; an unknown mode is refused."""

_FORBIDDEN = re.compile(
    r"\banonym\w*|\bde-?identif\w*|\b(?:gdpr|hipaa)\W+complian\w*"
    r"|\bcomplian\w* with (?:the )?(?:gdpr|hipaa)|\bno re-?identification\b"
    r"|\bre-?identification (?:is )?(?:not possible|impossible)"
    r"|\bsafe\b|\bpassed dcr\b",
    re.IGNORECASE,
)


def forbidden_words(text: str) -> list[str]:
    """Claims in ``text`` that no check of medaug supports, in order of appearance."""
    return _FORBIDDEN.findall(text)
