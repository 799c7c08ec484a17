"""The nouns of the road: numpy and the standard library only, frozen, valid once they exist."""

from medaug.domain.boxes import boxes_of
from medaug.domain.cohort import (
    HeldOut,
    Part,
    PatientSplit,
    deal_folds,
    deal_independently,
    split_patients,
)
from medaug.domain.cost import PrivacyCost
from medaug.domain.digest import digest_of
from medaug.domain.geometry import Geometry, lps_to_ras
from medaug.domain.lesion import Case, CodedConcept, Lesion, PatientKey
from medaug.domain.patch import LesionPatch, PatchLocation, PatchSet, central
from medaug.domain.sealed import Sealed
from medaug.domain.synthetic import (
    Ancestor,
    Candidates,
    CheckResult,
    Drawn,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Sampler,
    TrainingRecord,
)
from medaug.domain.volume import Region, Rescale, Unit, Volume, Window

__all__ = [
    "Ancestor",
    "Candidates",
    "Case",
    "CheckResult",
    "CodedConcept",
    "Drawn",
    "Geometry",
    "HeldOut",
    "Lesion",
    "LesionPatch",
    "Part",
    "PatchLocation",
    "PatchSet",
    "PatientKey",
    "PatientSplit",
    "PrivacyCost",
    "Region",
    "Release",
    "ReleaseDecision",
    "ReleasePolicy",
    "Rescale",
    "Sampler",
    "Sealed",
    "TrainingRecord",
    "Unit",
    "Volume",
    "Window",
    "boxes_of",
    "central",
    "deal_folds",
    "deal_independently",
    "digest_of",
    "lps_to_ras",
    "split_patients",
]
