"""A generator that may leave the site, and on what grounds.

`SharedGenerator` cannot exist without `Grounds`, nor hold a tensor that a generator does not have:
a discriminator, an optimiser's state or a patch has no place in it. What it carries is an
allow-list, never a copy of the run's ``generator/config.json``, which lists patients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medaug.domain import PrivacyCost
from medaug.errors import DisclosureError
from medaug.forbidden import forbidden_words

Kind = Literal["network", "votes"]

_TENSORS = {
    "network": re.compile(
        r"\d+\.(first\.weight|rungs\.\d+\."
        r"(weight|bias|running_mean|running_var|num_batches_tracked))"
    ),
    "votes": re.compile(r"population"),
}
_DESCRIBED = {
    "network": frozenset(
        {"latent", "latent_noise", "condition_on_size", "one_per_class", "width", "kernel", "slope"}
    ),
    "votes": frozenset({"kinds", "modality"}),
}
_ALWAYS = frozenset(
    {"sampler", "classes", "shape", "window", "unit", "mm_per_pixel", "draws_masks"}
)


@dataclass(frozen=True)
class Grounds:
    """Why a generator may leave.

    Attributes:
        cost: of differential privacy, per patient; None where there is none.
        reason: what the policy of the run says, in words; None where it says nothing.

    Raises:
        DisclosureError: if neither is there, or the words claim what nothing supports.
    """

    cost: PrivacyCost | None
    reason: str | None

    def __post_init__(self) -> None:
        finite = self.cost is not None and self.cost.unit == "patient"
        if not finite and not (self.reason or "").strip():
            raise DisclosureError(
                "This generator's privacy cost is infinite: it was trained without patient-level "
                "differential privacy, and may remember patients whom no released sample shows. "
                "Share the release instead; or train with privacy.mode: dp-vote or dp-sgd; or let "
                "the policy say why this generator may leave all the same (privacy.share_generator:"
                " 'the reason') and make the release again with --redo."
            )
        if claims := forbidden_words(self.reason or ""):
            raise DisclosureError(
                f"privacy.share_generator claims '{claims[0]}', which no check here can show: "
                "say what was decided and by whom."
            )

    @property
    def sentence(self) -> str:
        """What a receiver is told."""
        if self.cost is not None:
            return (
                f"Patient-level ({self.cost.epsilon:g}, {self.cost.delta:g})-differential privacy "
                f"by {self.cost.mechanism}, to {self.cost.relation}; accountant: "
                f"{self.cost.accountant}. Not covered: {'; '.join(self.cost.excluded)}. Drawing "
                "from the generator costs nothing more."
            )
        return (
            "There is no differential-privacy guarantee: the generator may remember patients that "
            f"it was trained on. It was shared because its institution decided so: {self.reason}"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class SharedGenerator:
    """What leaves of a generator, and nothing else.

    Attributes:
        name: of the study.
        kind: "network" draws with a network, "votes" with a simulator whose parameters patients
            voted on.
        grounds: why it may leave.
        described: what a sampler has to know, JSON; allow-listed.
        tensors: by name: of the generator alone.
        modality: DICOM's word.
        licence: empty where none was stated.
        medaug: version that trained it.
        release: digest of the release that was made from it.

    Raises:
        DisclosureError: for a tensor or a fact that is no generator's.
    """

    name: str
    kind: Kind
    grounds: Grounds
    described: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    modality: str
    licence: str
    medaug: str
    release: str

    def __post_init__(self) -> None:
        pattern = _TENSORS[self.kind]
        strangers = sorted(name for name in self.tensors if not pattern.fullmatch(name))
        reasons = [f"the tensor {name} is not a generator's" for name in strangers]
        allowed = _ALWAYS | _DESCRIBED[self.kind]
        if unknown := sorted(set(self.described) ^ allowed):
            reasons.append(f"what is said of the generator is not what may be: {unknown}")
        if not self.tensors:
            reasons.append("there is no tensor to share")
        reasons += [
            f"the tensor {name} holds a number that is not finite"
            for name, value in self.tensors.items()
            if not np.isfinite(value).all()
        ]
        if reasons:
            raise DisclosureError(*reasons)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it draws."""
        return tuple(self.described["classes"])

    @property
    def shape(self) -> tuple[int, ...]:
        """(channel, [slice,] row, column) of a patch."""
        return tuple(self.described["shape"])
