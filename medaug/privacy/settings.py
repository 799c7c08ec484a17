"""What a pipeline file may say about the gate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medaug.domain import ReleasePolicy
from medaug.privacy.verdict import CHECKS


class PrivacySettings(BaseModel):
    """Limits of the gate, fixed before anything is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["empirical"] = Field(
        "empirical",
        description="empirical: the checks see the training patches; no differential privacy",
    )
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
    memory_mb: int = Field(
        256, ge=64, description="working memory of the gate, in megabytes; 25 kB a patch and more"
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

    def policy(self) -> ReleasePolicy:
        """The policy that the review is held to."""
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
