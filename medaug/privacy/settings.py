"""What a pipeline file may say about the gate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medaug.domain import ReleasePolicy


class PrivacySettings(BaseModel):
    """Limits of the gate, fixed before anything is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["empirical"] = Field(
        "empirical",
        description="empirical: the checks see the training patches; no differential privacy",
    )
    per_class: int = Field(200, ge=1, description="samples wanted of every class")
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
    memory_mb: int = Field(256, ge=64, description="working memory of the gate, in megabytes")

    def policy(self) -> ReleasePolicy:
        """The policy that the review is held to."""
        return ReleasePolicy(
            per_class=self.per_class,
            mode=self.mode,
            tries=self.tries,
            copy_false_rejection=self.copy_false_rejection,
            duplicate_limit=self.duplicate_limit,
            patch_level_only=self.patch_level_only,
        )
