"""What a release says of itself, word for word."""

from typing import Final

NOTICE: Final = "SYNTHETIC - NOT FOR DIAGNOSTIC USE"

MODES = {
    "empirical": "Filters and checks saw training data; their figures stand in this release. "
    "There is no differential-privacy guarantee.",
}
"""What each mode of review may claim, word for word; an unknown mode is refused."""
