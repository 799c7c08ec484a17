"""How a generator is built and trained. A preset is a named row of defaults, each with its paper.

>>> settings = GeneratorSettings(preset="radford-2015", window=(-100, 250), batch=32)
>>> settings.learning_rate, settings.batch
(0.0002, 32)

.. [1] Radford, Metz, Chintala 2015, Unsupervised representation learning with deep
   convolutional generative adversarial networks, arXiv:1511.06434
.. [2] Frid-Adar et al. 2018, GAN-based synthetic medical image augmentation for increased CNN
   performance in liver lesion classification, Neurocomputing 321, doi:10.1016/j.neucom.2018.09.013
.. [3] Miyato, Koyama 2018, cGANs with projection discriminator, arXiv:1802.05637
.. [4] Huang et al. 2024, The GAN is dead; long live the GAN!, arXiv:2501.05441
.. [5] Zhao et al. 2020, Differentiable augmentation for data-efficient GAN training,
   arXiv:2006.10738
.. [6] Karras et al. 2020, Training generative adversarial networks with limited data,
   arXiv:2006.06676
.. [7] Shrivastava et al. 2017, Learning from simulated and unsupervised images through adversarial
   training, arXiv:1612.07828
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

Output = Literal["image", "mask"]
Preset = Literal["radford-2015", "frid-adar-2018", "conditional", "small-data"]

# The papers' networks are four times as wide (1024 channels at 4x4, width 128); `width` brings
# that back where there is a GPU. Everything else in the first two rows is the papers' own.
_DCGAN: dict[str, Any] = {
    "width": 32,
    "latent": 100,
    "latent_noise": "uniform",
    "kernel": 5,
    "generator_slope": 0.0,
    "discriminator_norm": "batch",
    "loss": "cross-entropy",
    "penalty": 0.0,
    "penalty_every": 1,
    "augment": 0.0,
    "augment_target": 0.0,
    "discriminator_steps": 1,
    "images": 60_000,
    "beta1": 0.5,
    "beta2": 0.999,
    "ema": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    # [1]; the paper knows no classes: with more than one, they enter as in [3].
    "radford-2015": {**_DCGAN, "one_per_class": False, "batch": 128, "learning_rate": 2e-4},
    # [2]: the same network, trained for each lesion class separately.
    "frid-adar-2018": {**_DCGAN, "one_per_class": True, "batch": 64, "learning_rate": 1e-4},
    # [3], but a DCGAN where the paper has a ResNet: classes enter the generator beside the latent.
    # The paper's five steps of the discriminator for one of the generator need its long training:
    # after 24,000 patches the generator had learnt nothing.
    "conditional": {
        "one_per_class": False,
        "width": 32,
        "latent": 128,
        "latent_noise": "normal",
        "kernel": 4,
        "generator_slope": 0.0,
        "discriminator_norm": "spectral",
        "loss": "hinge",
        "penalty": 0.0,
        "penalty_every": 1,
        "augment": 0.0,
        "augment_target": 0.0,
        "discriminator_steps": 1,
        "batch": 64,
        "images": 60_000,
        "learning_rate": 2e-4,
        "beta1": 0.0,
        "beta2": 0.9,
        "ema": 0.0,
    },
    # Classes as in [3], loss and penalties of [4], augmentation in the spirit of [5] and [6].
    "small-data": {
        "one_per_class": False,
        "width": 32,
        "latent": 64,
        "latent_noise": "normal",
        "kernel": 4,
        "generator_slope": 0.2,
        "discriminator_norm": "none",
        "loss": "relativistic",
        "penalty": 0.03,
        "penalty_every": 8,
        "augment": 0.8,
        "augment_target": 0.6,
        "discriminator_steps": 1,
        "batch": 16,
        "images": 60_000,
        "learning_rate": 5e-4,
        "beta1": 0.0,
        "beta2": 0.99,
        "ema": 0.995,
    },
}


def _by_preset(description: str, **limits: Any) -> Any:
    """A field whose default comes from the preset's row."""
    return Field(default=None, description=description, **limits)


class GeneratorSettings(BaseModel):
    """Settings of the station; what is not given comes from the preset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Field("small-data", description="named row of defaults, each from a paper")
    window: tuple[float, float] = Field(
        description="[low, high] in the unit of the patches; intensities outside are clipped",
    )
    outputs: tuple[Output, ...] = Field(
        ("image",),
        description="what is drawn: [image], or [image, mask] for a lesion mask with each patch",
    )

    condition_on_size: bool = Field(
        False, description="draw patches for a given lesion diameter in mm too, not class alone"
    )

    one_per_class: bool = _by_preset("train one network for each class, in turn")
    width: int = _by_preset("channels at half the patch size; doubled at each halving", ge=4)
    latent: int = _by_preset("numbers that a patch is drawn from", ge=2)
    latent_noise: Literal["uniform", "normal"] = _by_preset("law of these numbers")
    kernel: Literal[4, 5] = _by_preset("size of the convolutions")
    generator_slope: float = _by_preset("LeakyReLU slope in the generator; 0 is ReLU", ge=0, lt=1)
    discriminator_norm: Literal["batch", "spectral", "none"] = _by_preset(
        "normalisation in the discriminator"
    )

    loss: Literal["cross-entropy", "hinge", "relativistic"] = _by_preset(
        "what the two networks play for"
    )
    penalty: float = _by_preset("weight of the gradient penalties R1 and R2; 0 is none", ge=0)
    penalty_every: int = _by_preset("steps between penalties; they are scaled up to match", ge=1)
    augment: float = _by_preset(
        "probability of each augmentation of a patch; given alone, it is not adapted", ge=0, le=1
    )
    augment_target: float = _by_preset(
        "adapt the probability until real patches are told from generated ones this "
        "well (1 is always); 0 leaves it as it is",
        ge=0,
        lt=1,
    )

    discriminator_steps: int = _by_preset("its updates for one of the generator", ge=1)

    init: Path | None = Field(
        None,
        description="folder of a generator to begin from, taken from the pipeline file's folder; "
        "it must draw the same classes in the same window",
    )
    init_is_public: bool = Field(
        False,
        description="declares that the generator of init saw public or rendered data only; the "
        "gate cannot look for copies of them, and the release says so",
    )

    batch: int = _by_preset("real patches in one step", ge=2)
    images: int = _by_preset("length of training: real patches shown, repeats counted", ge=1)
    learning_rate: float = _by_preset("of Adam, for both networks", gt=0, le=1)
    beta1: float = _by_preset("of Adam", ge=0, lt=1)
    beta2: float = _by_preset("of Adam", ge=0, lt=1)
    ema: float = _by_preset("decay per step of the averaged generator; 0 is no average", ge=0, lt=1)

    judge_every: int = Field(
        250, ge=1, description="steps between judgements on the tuning patients; the best is kept"
    )
    memorised_below: float = Field(
        0.9,
        ge=0,
        le=1,
        description="stop when generated patches lie this much nearer to training patients than to "
        "tuning patients, three judgements in a row; 0 never stops",
    )

    min_patients: int = Field(
        20, ge=1, description="training patients of a class below which nothing is trained"
    )
    least_diversity: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="refuse a generator that lost more of the real patches' diversity: both their "
        "spread and how far apart they lie must reach this share; 0 only notes a collapse",
    )

    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    log_every: int = Field(50, ge=1, description="steps between lines of training.jsonl")
    sample_sheet_every: int = Field(500, ge=1, description="steps between sample sheets")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    precision: Literal["auto", 32, "bf16"] = Field(
        "auto",
        description="float32, or bfloat16 for the networks' products with weights in float32; "
        "auto: bf16 on a GPU, 32 on a CPU",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="compile the networks, which takes a C++ compiler on a CPU; "
        "auto: on a GPU only",
    )

    @field_validator("outputs")
    @classmethod
    def _known_outputs(cls, value: tuple[Output, ...]) -> tuple[Output, ...]:
        if value not in (("image",), ("image", "mask")):
            raise ValueError("[image] or [image, mask]")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        row = PRESETS.get(given.get("preset", "small-data"), {})
        if "augment" in given:  # whoever asks for a probability gets it, unless told to adapt it
            row = {**row, "augment_target": 0.0}
        return {**row, **given}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        low, high = self.window
        if not low < high:
            raise ValueError(f"window: low must be below high, got [{low:g}, {high:g}]")
        if self.penalty and self.discriminator_norm == "batch":
            raise ValueError(
                "penalty: gradient penalties are taken per patch and need "
                "discriminator_norm: none or spectral"
            )
        return self

    @model_validator(mode="after")
    def _public_says_of_what(self) -> Self:
        if self.init_is_public and self.init is None:
            raise ValueError("init_is_public: speaks of the generator of init, which is not set")
        return self

    def drawing(self) -> dict[str, Any]:
        """What one has to know of them to draw from the network alone, as JSON."""
        return {
            "latent": self.latent,
            "latent_noise": self.latent_noise,
            "condition_on_size": self.condition_on_size,
            "one_per_class": self.one_per_class,
            "width": self.width,
            "kernel": self.kernel,
            "slope": self.generator_slope,
            "draws_masks": self.draws_masks,
        }

    @property
    def draws_masks(self) -> bool:
        """Whether a mask is drawn with each patch."""
        return "mask" in self.outputs

    def recipe(self) -> dict[str, Any]:
        """What decides the weights: not the device, nor how often to write or what to refuse.

        Not where ``init`` lies: its digest is in the identity of the run.
        """
        written = {"checkpoint_every", "log_every", "sample_sheet_every", "device"}
        return self.model_dump(
            mode="json", exclude={*written, "least_diversity", "min_patients", "init"}
        )


class RefinerSettings(BaseModel):
    """Settings of the station where lesions are rendered and then refined [7]_.

    >>> RefinerSettings(preset="simulate-and-refine", window=(-100, 250)).blocks
    4
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    one_per_class: ClassVar[bool] = False

    preset: Literal["simulate-and-refine"] = Field(description="render lesions, then refine them")
    window: tuple[float, float] = Field(
        description="[low, high] in the unit of the patches; intensities outside are clipped",
    )
    render: dict[str, str] = Field(
        default_factory=dict,
        description="kind of lesion (cyst, metastasis, haemangioma) that each class is rendered "
        "as; without an entry, the kind of the same name",
    )
    rendered: int = Field(900, ge=2, description="rendered patches to learn from, of all classes")

    width: int = Field(16, ge=4, description="channels of the refiner and of the discriminator")
    blocks: int = Field(4, ge=1, description="residual blocks of the refiner")
    self_regularisation: float = Field(
        1.5,
        ge=0,
        description="price of the mean absolute change by the refiner; too low, "
        "and it washes faint lesions away",
    )
    history: int = Field(512, ge=0, description="earlier refined patches that are shown again")
    penalty: float = Field(0.03, ge=0, description="weight of the gradient penalty R1; 0 is none")
    penalty_every: int = Field(
        4, ge=1, description="steps between penalties; they are scaled up to match"
    )
    augment: float = Field(0.1, ge=0, le=1, description="probability of each augmentation")

    batch: int = Field(8, ge=2, description="real patches in one step, and rendered ones")
    images: int = Field(
        8_000, ge=1, description="length of training: real patches shown, repeats counted"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of Adam, for both networks")
    beta1: float = Field(0.0, ge=0, lt=1, description="of Adam")
    beta2: float = Field(0.99, ge=0, lt=1, description="of Adam")
    ema: float = Field(0.995, ge=0, lt=1, description="decay per step of the averaged refiner")

    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    log_every: int = Field(50, ge=1, description="steps between lines of training.jsonl")
    sample_sheet_every: int = Field(500, ge=1, description="steps between sample sheets")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        low, high = self.window
        if not low < high:
            raise ValueError(f"window: low must be below high, got [{low:g}, {high:g}]")
        return self

    def recipe(self) -> dict[str, Any]:
        """What decides the weights: every setting but the device and how often to write."""
        return self.model_dump(
            mode="json",
            exclude={"checkpoint_every", "log_every", "sample_sheet_every", "device"},
        )


class SimulatorSettings(BaseModel):
    """Settings where lesions are rendered from parameters that patients vote on; no network.

    How the votes are counted stands under ``privacy``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["dp-vote"] = Field(description="render what noisy votes of patients chose")
    window: tuple[float, float] = Field(
        description="[low, high] in the unit of the patches; intensities outside are clipped",
    )
    render: dict[str, str] = Field(
        default_factory=dict,
        description="what each class is rendered as: cyst, metastasis, haemangioma (CT in HU), or "
        "mass (a body on a cloudy ground, for any modality). Without an entry, the kind of the "
        "same name where it can be rendered, or a mass",
    )
    instead_of: str | None = Field(
        None,
        description="set by medaug: the preset that the pipeline file names and votes replace",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        low, high = self.window
        if not low < high:
            raise ValueError(f"window: low must be below high, got [{low:g}, {high:g}]")
        return self


VOTED: Literal["dp-vote"] = "dp-vote"
REFINER: Literal["simulate-and-refine"] = "simulate-and-refine"
FROM_SCRATCH: Literal["small-data"] = "small-data"  # the tag is one of the presets


def _which(given: Any) -> str | None:
    preset = given.get("preset") if isinstance(given, Mapping) else getattr(given, "preset", None)
    if preset is not None and preset not in {*PRESETS, REFINER, VOTED}:
        return None
    return str(preset) if preset in {REFINER, VOTED} else FROM_SCRATCH


AnyGeneratorSettings = Annotated[
    Annotated[GeneratorSettings, Tag(FROM_SCRATCH)]
    | Annotated[RefinerSettings, Tag(REFINER)]
    | Annotated[SimulatorSettings, Tag(VOTED)],
    Discriminator(
        _which,
        custom_error_type="preset",
        custom_error_message=f"preset: expected one of {', '.join([*PRESETS, REFINER, VOTED])}",
    ),
]
"""The ``generator`` of a pipeline file; its ``preset`` tells which."""
