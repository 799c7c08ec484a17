"""A pipeline file: YAML in, frozen settings out, every fault named at once.

Each station keeps its settings beside its code (``<station>/settings.py``); this module only
puts them together (``docs/decisions/0002-settings-live-with-their-station.md``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medaug.errors import Fault, SettingsError
from medaug.evaluation.settings import EvaluationSettings
from medaug.export.settings import SEGMENTATION, ExportSettings
from medaug.generators.beginning import init_digest
from medaug.generators.settings import (
    FROM_SCRATCH,
    REFINER,
    VOTED,
    AnyGeneratorSettings,
    GeneratorSettings,
    SimulatorSettings,
)
from medaug.patching.settings import PatchingSettings
from medaug.privacy.settings import PrivacySettings
from medaug.readers.settings import SourceSettings


class CohortSettings(BaseModel):
    """How patients are dealt out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: tuple[float, float, float] = Field(
        (0.5, 0.25, 0.25), description="shares of patients for training, tuning and test"
    )

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("three positive shares that sum to 1")
        return value


class ExternalSettings(BaseModel):
    """A test set of another site or scanner, read as the pipeline reads its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="for the report")
    data: Path = Field(
        description="root of its source paths; a relative one is taken from the pipeline file"
    )
    sources: tuple[SourceSettings, ...] = Field(
        (), description="where its files are; without, those of the pipeline, below its own root"
    )


class JudgedSettings(EvaluationSettings):
    """The settings of the evaluation, and where else it reads."""

    external: tuple[ExternalSettings, ...] = Field(
        (), description="test sets of other sites, scored by the same classifiers"
    )

    @field_validator("external")
    @classmethod
    def _told_apart(cls, value: tuple[ExternalSettings, ...]) -> tuple[ExternalSettings, ...]:
        if len({one.name for one in value}) < len(value):
            raise ValueError("each name once")
        return value


class PipelineConfig(BaseModel):
    """One study: where its files are and what every station does with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="names the study and its release")
    seed: int = Field(0, ge=0, description="every random choice follows from it")
    data: Path | None = Field(None, description="root of all source paths; --data sets it")
    site_key: Path | None = Field(
        None, description="file with the site's key; default: a folder of the user's account"
    )
    ledger: Path | None = Field(
        None, description="file of the site's ledger; default: beside the site's key"
    )
    sources: tuple[SourceSettings, ...] = Field(min_length=1)
    patching: PatchingSettings = PatchingSettings()
    cohort: CohortSettings = CohortSettings()
    generator: AnyGeneratorSettings
    privacy: PrivacySettings = PrivacySettings()
    export: ExportSettings = ExportSettings()
    evaluation: JudgedSettings = JudgedSettings()

    @model_validator(mode="after")
    def _votes_need_no_network(self) -> Self:
        given = self.generator
        if self.privacy.mode == VOTED and not isinstance(given, SimulatorSettings):
            simulator = SimulatorSettings(
                preset=VOTED,
                window=given.window,
                render=getattr(given, "render", {}),
                instead_of=given.preset,
            )
            object.__setattr__(self, "generator", simulator)  # frozen for all others
        return self

    @model_validator(mode="after")
    def _generator_fits_the_mode(self) -> Self:
        mode, preset = self.privacy.mode, self.generator.preset
        if mode != VOTED and preset == VOTED:
            raise ValueError(
                f"generator.preset: {VOTED} needs privacy.mode: {VOTED}, and privacy.mode is {mode}"
            )
        if self.privacy.twins and not isinstance(self.generator, GeneratorSettings):
            raise ValueError(f"privacy.twins: not for generator.preset: {preset}; set 0")
        if mode == "dp-sgd" and not isinstance(self.generator, GeneratorSettings):
            raise ValueError(f"privacy.mode: dp-sgd cannot train generator.preset: {preset}")
        pictures = all(source.kind == "images" for source in self.sources)
        if mode != "empirical" and self.patching.mm_per_pixel is None and not pictures:
            raise ValueError(
                f"patching.mm_per_pixel: privacy.mode: {mode} takes it from the settings, not from "
                "the patches"
            )
        return self

    @model_validator(mode="after")
    def _layouts_for_segmentation_have_masks(self) -> Self:
        asked = sorted({*SEGMENTATION} & {*self.export.formats})
        given = self.generator
        if asked and isinstance(given, GeneratorSettings) and not given.draws_masks:
            raise ValueError(
                f"export.formats: {', '.join(asked)} for patches with masks; "
                "set generator.outputs: [image, mask]"
            )
        return self

    @model_validator(mode="after")
    def _folds_refit_without_noise(self) -> Self:
        if self.evaluation.folds and self.privacy.mode != "empirical":
            raise ValueError(
                f"evaluation.folds: with privacy.mode: {self.privacy.mode} every fold would ask "
                "the patients again; leave it at 0"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Every setting as JSON; the digest of what is begun from, no paths of this site."""
        paths = {"data", "site_key", "ledger"}
        document: dict[str, Any] = self.model_dump(mode="json", exclude=paths)
        for one in document["evaluation"]["external"]:
            del one["data"]
        document["export"]["sign_with"] = True if self.export.sign_with is not None else None
        if isinstance(self.generator, GeneratorSettings) and self.generator.init is not None:
            document["generator"]["init"] = init_digest(self.generator.init)
        return document


SHIPPED = next(
    folder
    for folder in (Path(__file__).parent / "pipelines", Path(__file__).parents[1] / "pipelines")
    if folder.is_dir()
)
"""The pipelines that come with medaug: inside the wheel, or at the top of a checkout."""


def load_pipeline(
    name_or_path: str | Path, overrides: Sequence[str] = (), data: Path | None = None
) -> PipelineConfig:
    """Read a pipeline file, or a shipped pipeline by its name.

    Args:
        name_or_path: a YAML file, or the name of one in `SHIPPED` (``liver_ct``).
        overrides: ``key.path=value`` strings; the value is read as YAML.
        data: replaces ``data`` of the file. A relative ``data``, ``generator.init`` or ``data``
            of an external set in the file is taken from the file's folder.

    Raises:
        SettingsError: with every fault found.
    """
    path = _find(name_or_path)
    document = _parse(path)
    for override in overrides:
        _override(document, override)
    where = path.name
    try:
        config = PipelineConfig.model_validate(document)
    except ValidationError as error:
        raise SettingsError(*_faults(where, error)) from None
    if data is None and config.data is not None:
        data = path.parent / config.data
    generator = config.generator
    if isinstance(generator, GeneratorSettings) and generator.init is not None:
        generator = generator.model_copy(update={"init": path.parent / generator.init})
    external = tuple(
        one.model_copy(update={"data": path.parent / one.data})
        for one in config.evaluation.external
    )
    evaluation = config.evaluation.model_copy(update={"external": external})
    return config.model_copy(
        update={"data": data, "generator": generator, "evaluation": evaluation}
    )


def require_data(config: PipelineConfig, where: str) -> Path:
    """The root of the source paths, or a `SettingsError` that says how to give it."""
    if config.data is None:
        raise SettingsError(
            Fault(f"{where}: data", "not set", "a folder", "add --data FOLDER to the command")
        )
    return config.data


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.parent == Path() and shipped.is_file():
        return shipped
    names = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    raise SettingsError(
        Fault(
            str(name_or_path),
            "no such pipeline file",
            f"a YAML file, or one of the pipelines that come with medaug: {', '.join(names)}",
            "check the spelling",
        )
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not UTF-8 text"
        raise SettingsError(
            Fault(f"{path.name}{line}", f"this is not YAML: {problem}", "", "correct the file")
        ) from None
    if not isinstance(document, dict):
        raise SettingsError(
            Fault(path.name, "no settings in it", "keys such as name, sources, generator")
        )
    return document


def _override(document: dict[str, Any], override: str) -> None:
    """Apply ``a.b.0.c=value`` to ``document`` in place."""
    key, equals, text = override.partition("=")
    fault = Fault(
        f"--set {override}", "not understood", "key.path=value, e.g. generator.images=20000"
    )
    if not equals or not key:
        raise SettingsError(fault)
    at: Any = document
    *parents, last = key.split(".")
    try:
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        at[int(last) if isinstance(at, list) else last] = yaml.safe_load(text)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        raise SettingsError(fault) from None


def _faults(where: str, error: ValidationError) -> Iterator[Fault]:
    for detail in error.errors(include_url=False):
        models = list(_models_at(detail["loc"][:-1]))
        known = sorted({name for model in models for name in model.model_fields})
        # Which generator it is stands in its preset and is no part of the key.
        path = [part for part in detail["loc"] if part not in (FROM_SCRATCH, REFINER, VOTED)]
        key = ".".join(map(str, path))
        place = f"{where}: {key}"
        if detail["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
            action = f"did you mean '{near[0]}'?" if near else "remove it"
            yield Fault(place, "unknown key", ", ".join(known), action)
        elif detail["type"] == "missing":
            yield Fault(place, "missing", "", f"add '{detail['loc'][-1]}'")
        else:
            shown = repr(detail["input"])
            came = shown if len(shown) <= 80 else shown[:77] + "…"
            yield Fault(place, came, detail["msg"].removeprefix("Value error, "))


def _models_at(location: Iterable[str | int]) -> list[type[BaseModel]]:
    """The settings models that a key path leads to; several where a union stands there."""
    models: list[type[BaseModel]] = [PipelineConfig]
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
        elif isinstance(part, str):
            # A union's tag ("dicom"): keep the members that carry it.
            models = [
                model
                for model in models
                if any(part in get_args(field.annotation) for field in model.model_fields.values())
            ]
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
