"""What an evaluation may be told; the comparison that decides is fixed in `comparison`."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ClassifierName = Literal[
    "frid-adar-2018",
    "resnet-10-narrow",
    "resnet-18",
    "densenet-121",
    "efficientnet-b0",
    "radiomic-logistic",
    "transfer",
]
SANITY_LINES = ("radiomic-logistic",)
"""Classifiers whose scores are shown and from which nothing is concluded."""
TaskName = Literal["classification", "segmentation", "detection"]


class FidelitySettings(BaseModel):
    """How synthetic patches are compared with real ones, patch by patch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="compute the figures of likeness at all")
    features: str = Field(
        "radiomic",
        min_length=1,
        description="radiomic, or the path of a weight file: *.safetensors of a ResNet, or *.pt2 "
        "of torch.export.save",
    )
    features_sha256: str = Field(
        "",
        pattern="^([0-9a-fA-F]{64})?$",
        description="what the weight file must have; needed for *.pt2, which is a program",
    )
    deals: int = Field(50, ge=20, description="random halvings of the patients")
    most: int = Field(500, ge=20, description="patches in a sample at most, for time's sake")


class EvaluationSettings(BaseModel):
    """How the arms are trained and how their scores are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifiers: tuple[ClassifierName, ...] = Field(
        ("frid-adar-2018", "resnet-10-narrow"),
        min_length=1,
        description="frid-adar-2018: their CNN; resnet-10-narrow: MONAI's ResNet, one block a "
        "stage, 16 to 128 channels; resnet-18, densenet-121, efficientnet-b0: MONAI's, from random "
        "weights, far slower on a CPU; radiomic-logistic: logistic regression on radiomic "
        "features, a sanity line without part in the verdict; transfer: a ResNet that "
        "goes on from the file in weights",
    )
    weights: str = Field(
        "", description="of the classifier transfer: the path of a *.safetensors of a ResNet"
    )
    weights_sha256: str = Field(
        "", pattern="^([0-9a-fA-F]{64})?$", description="what the file in weights must have"
    )
    tasks: tuple[TaskName, ...] = Field(
        ("classification",),
        min_length=1,
        description="classification, which gives the verdict; and, where patches and release have "
        "masks, segmentation and detection (marks of the segmentation network)",
    )
    seeds: int = Field(
        3,
        ge=2,
        description="trainings of every arm; with one, luck and gain cannot be told apart",
    )
    steps: int = Field(
        400, ge=5, description="optimiser steps of every training, the same for every arm"
    )
    batch: int = Field(32, ge=4, description="patches per step, classes in equal shares")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, falling to 0 on a cosine")
    synthetic_share: float = Field(
        0.3, gt=0, lt=1, description="share of each batch that is synthetic in the real+gan arms"
    )
    bootstrap: int = Field(2000, ge=500, description="replicates: cohorts of resampled patients")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="of intervals and verdicts")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where networks train")
    fidelity: FidelitySettings = Field(
        FidelitySettings(), description="how alike synthetic and real patches are"
    )

    @field_validator("classifiers", "tasks")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each name once")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "classification" not in self.tasks:
            raise ValueError("tasks name classification, on which the verdict rests")
        if not set(self.classifiers) - set(SANITY_LINES):
            raise ValueError("name a classifier beside radiomic-logistic, which gives no verdict")
        if ("transfer" in self.classifiers) != bool(self.weights):
            raise ValueError("the classifier transfer and a file in weights go together")
        return self

    @property
    def synthetic_per_batch(self) -> int:
        """Synthetic patches in a batch that mixes both: at least one, and one real."""
        return min(max(round(self.synthetic_share * self.batch), 1), self.batch - 1)
