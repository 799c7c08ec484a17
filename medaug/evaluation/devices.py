"""Where networks train."""

from __future__ import annotations

import torch

from medaug.errors import Fault, SettingsError
from medaug.evaluation.settings import EvaluationSettings


def device_of(settings: EvaluationSettings) -> torch.device:
    """What ``settings.device`` asks for.

    Raises:
        SettingsError: for a device that is not there.
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError(
            Fault("evaluation.device", "cuda, but torch finds no CUDA device", "auto, cpu")
        )
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")
