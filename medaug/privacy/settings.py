"""What a pipeline file may say about the gate."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medaug.domain import ReleasePolicy
from medaug.privacy.canaries import FEWEST, MOST
from medaug.privacy.memory import MEMORY_MB
from medaug.privacy.verdict import CHECKS

Mode = Literal["empirical", "dp-vote", "dp-sgd"]


class VoteSettings(BaseModel):
    """How patients' votes are turned into a population; nothing here changes the guarantee."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(100, ge=3, le=10_000, description="of every class in each round")
    nearest: int = Field(
        20, ge=1, description="candidates that a patch votes for; fewer than there are"
    )
    perturb: tuple[float, ...] = Field(
        (0.2, 0.17, 0.15, 0.13, 0.11, 0.093, 0.079, 0.068, 0.058, 0.05),
        min_length=1,
        description="how far candidates move after each round, as a share of a parameter's range; "
        "one entry for each round, and each round asks the patients once",
    )
    left: int = Field(
        400, ge=10, le=10_000, description="parameters of every class that are kept to draw from"
    )

    @model_validator(mode="after")
    def _fewer_than_there_are(self) -> Self:
        if self.nearest >= self.candidates:
            raise ValueError(f"nearest: fewer than candidates, {self.candidates}")
        return self


class DpSgdSettings(BaseModel):
    """Training with noisy gradients; every setting here but ``generator_every`` is charged for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(0.1, gt=0, le=1, description="probability of a patient to be in a step")
    steps: int = Field(2000, ge=1, description="of the discriminator")
    clip: float = Field(1.0, gt=0, description="largest L2 norm of a patient's gradient")
    patches_per_patient: int = Field(4, ge=1, description="exactly so many in a step")
    generator_every: int = Field(
        5, ge=1, description="steps of the discriminator for one of the generator"
    )


class PrivacySettings(BaseModel):
    """Limits of the gate, fixed before anything is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field(
        "empirical",
        description="empirical: the checks see the training patches; no differential privacy. "
        "dp-vote: patients vote with noise on what a simulator draws. dp-sgd: training with noisy "
        "gradients. In both, nothing after the noise sees a patient",
    )
    epsilon: float | None = Field(
        None, gt=0, le=100, description="of differential privacy, per patient; dp modes need it"
    )
    epsilon_cap: float | None = Field(
        None,
        gt=0,
        description="the most that all runs of this site together may spend on one patient, at "
        "delta; default: epsilon, so that a patient is in one run. A run that was stopped has "
        "spent",
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="of differential privacy; at most 1/(10 n)")
    force: bool = Field(
        False, description="dp-sgd although so little signal is left that it is refused otherwise"
    )
    dp_vote: VoteSettings = VoteSettings()
    dp_sgd: DpSgdSettings = DpSgdSettings()
    per_class: int | dict[str, int] = Field(
        200,
        description="samples wanted of every class; or a number for each class to be released, "
        "such as {cyst: 50, metastasis: 200}, and the classes left out are not released",
    )
    tries: int = Field(5, ge=1, le=100, description="candidates drawn at most per wanted sample")
    copy_false_rejection: float = Field(
        0.05, gt=0, le=0.2, description="share of new real patients the copy limit may reject"
    )
    duplicate_limit: float = Field(
        0.98, gt=0, lt=1, description="correlation above which two samples are the same picture"
    )
    patch_level_only: bool = Field(
        False,
        description="release although no patients are known; no statement about patients is made",
    )
    near_share: float = Field(
        0.025,
        gt=0,
        le=0.1,
        description="share of real patients that would be turned away for lying too near to one "
        "patient; and as many for lying near one patient and no other",
    )
    cap_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="share of a release that may have one nearest patient, or more where real "
        "patients do",
    )
    per_patient: int = Field(
        10, ge=1, le=10, description="samples of a class per training patient, over all releases"
    )
    look_alikes: Literal["ask", "different people"] = Field(
        "ask",
        description="what to do where two patients look like one: refuse and ask; or go on, "
        "because somebody has looked and they are different people",
    )
    audit: bool = Field(
        True,
        description="attack the samples before they leave, training patients against the test "
        "part, and refuse where the attack succeeds or could not have; without it the release "
        "says that no attack was run. In mode empirical only",
    )
    canaries: int = Field(
        0,
        description="simulated patients, 8 to 16 of a pool of 1000, who are trained on with the "
        "real ones; the release is refused where the samples tell which, and samples like one are "
        "withheld. 0: none. Flat CT patches only, and in mode empirical only",
    )
    canary_kinds: dict[str, str] = Field(
        {},
        description="which kind of simulated lesion stands for a class in the canaries, such as "
        "{tumour: metastasis}; by default the one of the same name",
    )
    twins: int = Field(
        0,
        description="generators, 12, 14 or 16, that are trained besides on random halves of the "
        "training patients with the run's settings; the release is refused where their samples "
        "tell which half. Each costs a training. 0: none. For generators that learn from real "
        "patches alone, and in mode empirical only",
    )
    share_generator: str | None = Field(
        None,
        min_length=20,
        description="why the generator itself may leave although its privacy cost is infinite: who "
        "decided it and on what grounds. It goes into the ledger and to whoever receives the "
        "generator. With differential privacy none is needed",
    )
    memory_mb: int = Field(
        MEMORY_MB,
        ge=64,
        description="working memory of the gate, in megabytes; 48 and 0.05 a patch",
    )

    @field_validator("per_class", mode="before")
    @classmethod
    def _one_number_or_one_for_each_class(cls, value: Any) -> Any:
        numbers = list(value.values()) if isinstance(value, dict) else [value]
        names = list(value) if isinstance(value, dict) else []
        whole = all(type(number) is int and number >= 1 for number in numbers)
        if not numbers or not whole or not all(isinstance(name, str) for name in names):
            raise ValueError(
                "a whole number of 1 or more; or one for each class to be released, by the "
                "class's name, such as {cyst: 50}"
            )
        return value

    @field_validator("canaries")
    @classmethod
    def _none_or_enough(cls, value: int) -> int:
        if value and not FEWEST <= value <= MOST:
            raise ValueError(f"0 for none, or {FEWEST} to {MOST}")
        return value

    @field_validator("twins")
    @classmethod
    def _none_or_pairs(cls, value: int) -> int:
        if value not in (0, 12, 14, 16):
            raise ValueError("0 for none, or 12, 14 or 16")
        return value

    @model_validator(mode="after")
    def _canaries_are_for_empirical(self) -> Self:
        if (self.canaries or self.twins) and self.mode != "empirical":
            raise ValueError("canaries, twins: mode empirical only; set 0")
        if self.canary_kinds and not self.canaries:
            raise ValueError("canary_kinds: there are no canaries; set canaries: 8 or remove it")
        return self

    @model_validator(mode="after")
    def _epsilon_belongs_to_dp(self) -> Self:
        if self.mode == "empirical" and self.epsilon is not None:
            raise ValueError("epsilon: mode empirical has none; choose mode: dp-vote or dp-sgd")
        if self.mode != "empirical" and self.epsilon is None:
            raise ValueError(f"epsilon: mode {self.mode} needs one, such as 3")
        if self.epsilon_cap is not None and self.epsilon_cap < (self.epsilon or math.inf):
            raise ValueError(
                "epsilon_cap: it is for all runs together, and this one alone spends epsilon: "
                f"{'none is set' if self.epsilon is None else f'{self.epsilon:g}'}"
            )
        if self.mode != "empirical" and self.patch_level_only:
            raise ValueError(
                "patch_level_only: differential privacy here is per patient, and needs patients"
            )
        return self

    @property
    def audited(self) -> bool:
        """Whether the samples are attacked before they leave."""
        return self.audit and self.mode == "empirical"

    def decisive(self) -> dict[str, Any]:
        """What decides which samples leave, as JSON: two runs that differ in the rest are one."""
        return self.model_dump(mode="json", exclude={"memory_mb", "epsilon_cap", "share_generator"})

    def charged(self) -> dict[str, Any] | None:
        """What decides more than the review, as JSON; None where nothing does.

        That is the mechanism of differential privacy, or the canaries.
        """
        if self.mode == "empirical":
            names = {"canaries", "canary_kinds"}
            return self.model_dump(mode="json", include=names) if self.canaries else None
        names = {"mode", "epsilon", "delta", "force", "dp_vote", "dp_sgd"}
        return self.model_dump(mode="json", include=names)

    def policy(self) -> ReleasePolicy:
        """The policy that the review is held to."""
        if self.mode != "empirical":
            # Nothing of a patient is compared with, so that no patients are needed to calibrate.
            return ReleasePolicy(
                per_class=self.per_class,
                checks=("format", "duplicate"),
                mode=self.mode,
                tries=self.tries,
                duplicate_limit=self.duplicate_limit,
                min_calibration_patients=0,
            )
        return ReleasePolicy(
            per_class=self.per_class,
            mode=self.mode,
            tries=self.tries,
            copy_false_rejection=self.copy_false_rejection,
            duplicate_limit=self.duplicate_limit,
            patch_level_only=self.patch_level_only,
            checks=CHECKS,
            near_share=self.near_share,
            cap_share=self.cap_share,
            per_patient=self.per_patient,
            look_alikes=self.look_alikes,
        )
