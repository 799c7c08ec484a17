"""What an evaluation may be told; the comparison that decides is fixed in `comparison`."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

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
ChosenArm = Literal[
    "real",
    "real+classical",
    "real+randaugment",
    "real+trivialaugment",
    "real+gan",
    "real+classical+gan",
    "real+classical+refined",
    "gan",
]
ArmName = Literal[ChosenArm, "real+searched"]
NEEDED: tuple[ChosenArm, ...] = ("real+classical", "real+classical+gan")
"""The arms of the main comparison."""


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


class RandAugmentSettings(BaseModel):
    """The two numbers of RandAugment (Cubuk et al. 2020)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(2, ge=1, le=8, description="operations for each patch")
    m: int = Field(5, ge=0, le=10, description="their magnitude; at 10 each is at its limit")


class SearchSettings(BaseModel):
    """A search on tuning patients alone; its policy becomes an arm, real+searched, not in folds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(
        0, ge=0, description="policies tried for each classifier; 0 searches for none"
    )
    seeds: int = Field(1, ge=1, description="trainings of every policy tried")


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
    arms: tuple[ChosenArm, ...] = Field(
        ("real", "real+classical", "real+gan", "real+classical+gan", "gan"),
        description="what classifiers are trained on; real+classical and real+classical+gan must "
        "be among them; each arm more costs as much as each of these. real+classical+refined is "
        "trained where `evaluate` is handed a second release, which a pipeline does not have",
    )
    randaugment: RandAugmentSettings = Field(
        RandAugmentSettings(), description="of the arm real+randaugment"
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
    dose: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        {},
        description="synthetic patches shown for each real one, class by class; a class that is "
        "not named follows from synthetic_share",
    )
    dose_curve: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        (),
        description="doses at which the arms that mix real and synthetic patches are trained once "
        "more, for a curve: [0, 0.5, 1, 2, 5, 10]; nothing is chosen by it",
    )
    search: SearchSettings = Field(SearchSettings(), description="a policy found by search")
    bootstrap: int = Field(2000, ge=500, description="replicates: cohorts of resampled patients")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="of intervals and verdicts")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where networks train")
    fidelity: FidelitySettings = Field(
        FidelitySettings(), description="how alike synthetic and real patches are"
    )
    folds: int = Field(
        0,
        ge=0,
        le=20,
        description="folds of a cross-validation in which the generator is refitted, beside the "
        "verdict on the release itself; 0: none, since every fold takes as long as training the "
        "generator did",
    )
    tuning_share: float = Field(
        0.25, gt=0, lt=1, description="of the patients who do not judge in a fold, share that tunes"
    )
    doses: tuple[float, ...] = Field(
        (0, 0.5, 1, 2, 5, 10),
        min_length=1,
        description="synthetic patches per real one of each class; the tuning part of a fold "
        "chooses",
    )
    learning_curve: tuple[float, ...] = Field(
        (),
        description="shares of the training patients, such as [0.1, 0.25, 0.5, 1]: what synthetic "
        "patches are worth with fewer patients; every share and fold trains a generator of its own",
    )
    table: Literal["none", "frid-adar-2018"] = Field(
        "none",
        description="frid-adar-2018: instead of the arms, their sweep over classical and then over "
        "synthetic doses in every fold",
    )
    quick: bool = Field(False, description="a smaller protocol for a first look; --quick sets it")

    @field_validator("classifiers", "tasks")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each name once")
        return value

    @field_validator("arms")
    @classmethod
    def _main_comparison(cls, value: tuple[ChosenArm, ...]) -> tuple[ChosenArm, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each arm once")
        if missing := [name for name in NEEDED if name not in value]:
            raise ValueError(f"the main comparison needs {' and '.join(missing)} too")
        return value

    @field_validator("dose_curve")
    @classmethod
    def _curve_rises(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("rising doses, each once")
        return value

    def dose_of(self, classes: Sequence[str]) -> tuple[float, ...]:
        """Synthetic patches shown for each real one, of each class in the mixed arms."""
        usual = self.synthetic_share / (1 - self.synthetic_share)
        return tuple(self.dose.get(label, usual) for label in classes)

    @field_validator("doses", "learning_curve")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] < 0):
            raise ValueError("rising figures, each once, none negative")
        return value

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds: 0 for none, or 2 and more")
        if self.doses[-1] == 0:
            raise ValueError("doses: at least one above 0")
        if not self.folds and (self.learning_curve or self.table != "none"):
            raise ValueError("learning_curve and table refit the generator and need folds")
        if self.learning_curve and not 0 < self.learning_curve[0] < self.learning_curve[-1] <= 1:
            raise ValueError("learning_curve: two or more shares above 0, at most 1")
        return self

    def as_asked(self) -> Self:
        """These settings, or with ``quick`` smaller ones; nothing becomes larger."""
        if not self.quick:
            return self
        judging = tuple(name for name in self.classifiers if name not in SANITY_LINES)
        smaller = {
            "classifiers": ("resnet-10-narrow",) if "resnet-10-narrow" in judging else judging[:1],
            "seeds": 2,
            "steps": min(self.steps, 150),
            "bootstrap": min(self.bootstrap, 1000),
            "folds": min(self.folds, 2),
            "doses": tuple(dose for dose in self.doses if dose in (0, 1)) or self.doses[:2],
            "learning_curve": (),
            "dose_curve": (),
            "search": SearchSettings(),
        }
        return self.model_copy(update=smaller)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "classification" not in self.tasks:
            raise ValueError("tasks name classification, on which the verdict rests")
        if not set(self.classifiers) - set(SANITY_LINES):
            raise ValueError("name a classifier beside radiomic-logistic, which gives no verdict")
        if ("transfer" in self.classifiers) != bool(self.weights):
            raise ValueError("the classifier transfer and a file in weights go together")
        return self
