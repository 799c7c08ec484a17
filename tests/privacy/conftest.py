"""Puts ``planted`` (generators with known faults) within reach of the tests beside it."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

_FITTED: dict[Any, Any] = {}


@pytest.fixture(autouse=True)
def _fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate's copy check on the same patients is fitted once; it always comes out the same.

    `test_copies.TestLimit` holds it to that.
    """
    from medaug.privacy.copies import CopyDetector

    class Fitted:
        @staticmethod
        def fit(training: Any, calibration: Any, **rest: Any) -> CopyDetector:
            rest.pop("progress")
            rest.pop("workers")
            parts = [(part.images.tobytes(), part.patients) for part in (training, calibration)]
            key = (*parts[0], *parts[1], *sorted(rest.items()))
            if key not in _FITTED:
                _FITTED[key] = CopyDetector.fit(training, calibration, **rest)
            return _FITTED[key]

    monkeypatch.setattr("medaug.privacy.gate.CopyDetector", Fitted)
