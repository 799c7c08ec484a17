"""What a release says of itself, word for word."""

from typing import Final

NOTICE: Final = "SYNTHETIC - NOT FOR DIAGNOSTIC USE"

MODES = {
    "empirical": "Filters and checks saw training data; their figures stand in this release. "
    "There is no differential-privacy guarantee.",
    "dp-vote": "Patients' data were reached through votes with Gaussian noise alone. "
    "The guarantee, its unit and what it does not cover stand in this release; no check of this "
    "release looked at patients' data.",
    "dp-sgd": "Patients' data were reached through clipped gradients with Gaussian noise alone. "
    "The guarantee, its unit and what it does not cover stand in this release; no check of this "
    "release looked at patients' data.",
}
"""What each mode of review may claim, word for word; an unknown mode is refused."""
