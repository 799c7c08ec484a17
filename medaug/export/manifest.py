"""``release.json``: what was released, how it was reviewed, what may be said of it.

`Manifest` is the one source; ``release.schema.json`` beside this file is its JSON Schema, for
receivers without Python. It names no seed, latent, patient, path, host, user or time of day.
"""

from __future__ import annotations

import json
import math
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from medaug.domain import CheckResult, PrivacyCost, Release, ReleasePolicy, Window
from medaug.errors import DisclosureError, Fault, ReaderError, SettingsError
from medaug.export.entries import Entry, PrivacyEvent, Verdict, events_of
from medaug.export.layout import depth_of, folder_names
from medaug.export.settings import BUILT_IN_FINDINGS, ExportSettings, Finding, Format
from medaug.export.words import MODES, NOTICE

MANIFEST = "release.json"
SCHEMA = Path(__file__).with_name("release.schema.json")
_DIGEST = r"^[0-9a-f]{64}$"


_PACKAGES = ("highdicom", "nibabel", "numpy", "pydicom", "torch")


class ImageEntry(Entry):
    """What a pixel means: value = stored * slope + intercept, in ``unit``."""

    shape: tuple[int, int, int] | tuple[int, int, int, int] = Field(
        description="of one sample as an array; `axes` names its sides"
    )
    axes: tuple[str, ...] = Field(
        description="of one sample: channel, row, column; or, with adjacent slices as channels, "
        "slice, row, column; or, in 3-D, channel, slice, row, column. Slices run to the head, rows "
        "to the back, columns to the left"
    )
    modality: str = Field(description="DICOM Modality (0008,0060)")
    unit: str = Field(description="HU, SUV or arbitrary")
    mm_per_pixel: float | None = Field(description="nominal; null where the source has none")
    slice_mm: float | None = Field(
        description="from one slice to the next; null for single slices or an unknown size"
    )
    slope: float
    intercept: float
    window: tuple[float, float] = Field(description="what the generator draws, and for viewing")


class ClassEntry(Entry):
    """One class: how many samples, of how many candidates, and where they lie."""

    name: str
    folder: str = Field(description="folder of this class in png/, nifti/ and dicom/")
    samples: int = Field(ge=0, description="samples in this release")
    drawn: int = Field(ge=0, description="candidates drawn")
    accepted: int = Field(ge=0, description="candidates that every check let through")
    finding: Finding | None = Field(description="coded finding, where one is known")


class LedgerEntry(Entry):
    """Where the institution's own ledger stood when this release was recorded."""

    entry: int = Field(ge=1, description="number of the entry")
    head: str = Field(pattern=_DIGEST, description="its hash, over all entries up to it")


class Manifest(Entry):
    """The content of ``release.json``."""

    schema_version: Literal[2] = 2
    notice: Literal["SYNTHETIC - NOT FOR DIAGNOSTIC USE"] = NOTICE
    medaug: str = Field(description="version that wrote the release")
    versions: dict[str, str] = Field(description="of packages that trained or wrote it")
    name: str
    title: str
    description: str
    intended_use: str
    licence: str = Field(description="empty where none was stated")
    made_by: str = Field(description="empty where nobody was named")
    contact: str = Field(description="who answers for the release; empty where nobody was named")
    body_part: str | None = Field(description="DICOM Body Part Examined (0018,0015)")
    mode: str = Field(description="how the review worked; says whether privacy was proven")
    patch_level_only: bool = Field(description="no patient identity: nothing holds per patient")
    policy: ReleasePolicy = Field(description="limits fixed before sampling")
    checks: tuple[CheckResult, ...] = Field(description="figures to four significant digits")
    events: tuple[PrivacyEvent, ...] = Field(description="how patients' data were read")
    cost: PrivacyCost | None = Field(
        description="of differential privacy; null where the mode claims none"
    )
    statements: tuple[str, ...] = Field(description="the sentences that may be said outside")
    classes: tuple[ClassEntry, ...] = Field(description="in the order of the labels")
    image: ImageEntry
    masks: bool = Field(description="whether a drawn lesion mask belongs to every sample")
    formats: tuple[Format, ...]
    evaluation: Verdict | None = Field(
        description="null where none was made, and with differential privacy, which it would break"
    )
    sop: Literal["secondary-capture", "modality"] = Field(
        description="what DICOM images are: Secondary Capture, or the image of their modality"
    )
    day: date | None = Field(description="of release; the only date in it")
    generator_digest: str = Field(pattern=_DIGEST, description="SHA-256 of the weights")
    data_digest: str | None = Field(
        pattern=_DIGEST,
        description="SHA-256 of the training patches and the site's own tokens for them, for the "
        "institution to recognise; null where nobody told, and with differential privacy",
    )
    pixels_digest: str = Field(
        pattern=_DIGEST, description="SHA-256 over pixels, masks and meaning"
    )
    ledger: LedgerEntry | None = Field(
        description="for the institution to check its ledger by; null where none was kept"
    )


def describe(
    release: Release,
    settings: ExportSettings,
    name: str,
    window: Window,
    slice_mm: float | None = None,
    ledger: tuple[int, str] | None = None,
    data_digest: str | None = None,
    day: date | None = None,
) -> Manifest:
    """The manifest of a release; what comes after the window as in `write_release`.

    Raises:
        DisclosureError: if the mode is unknown or a figure of the review is no number.
        SettingsError: if a finding is set for a class that the release does not have.
    """
    decision = release.decision
    ran = [result.name for result in decision.results]
    return Manifest(
        medaug=version("medaug"),
        versions=_versions(),
        name=name,
        title=settings.title or name,
        description=settings.description,
        intended_use=settings.intended_use,
        licence=settings.licence,
        made_by=settings.made_by,
        contact=settings.contact,
        body_part=settings.body_part,
        mode=_known_mode(decision.policy.mode),
        patch_level_only=decision.policy.patch_level_only,
        policy=decision.policy,
        checks=tuple(_rounded(result) for result in decision.results),
        events=events_of(decision.cost, ran, evaluated=False),
        cost=decision.cost,
        statements=decision.statements,
        classes=_classes(release, settings),
        image=describe_image(release, window, slice_mm),
        masks=release.masks is not None,
        formats=settings.formats,
        evaluation=None,
        sop=settings.sop,
        day=day,
        generator_digest=release.generator_digest,
        # A digest of patients' data is made without noise.
        data_digest=None if decision.cost else data_digest,
        pixels_digest=release.digest,
        ledger=None if ledger is None else LedgerEntry(entry=ledger[0], head=ledger[1]),
    )


def describe_image(release: Release, window: Window, slice_mm: float | None = None) -> ImageEntry:
    """What the pixels of a release mean.

    Args:
        release: the release.
        window: what the generator draws.
        slice_mm: between adjacent slices that are channels; ``mm_per_pixel`` where nothing is
            said. Voxels of 3-D patches are cubes in any case.
    """
    shape = release.pixels.shape[1:]
    axes: tuple[str, ...] = (
        ("slice", "row", "column") if shape[0] > 1 else ("channel", "row", "column")
    )
    if len(shape) == 4:
        axes, slice_mm = ("channel", "slice", "row", "column"), None
    apart = (slice_mm or release.mm_per_pixel) if depth_of(shape) > 1 else 0
    return ImageEntry(
        shape=shape,
        axes=axes,
        modality=release.modality,
        unit=release.unit.value,
        mm_per_pixel=release.mm_per_pixel or None,
        slice_mm=apart or None,
        slope=release.rescale.slope,
        intercept=release.rescale.intercept,
        window=(window.low, window.high),
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release folder.

    Raises:
        ReaderError: with one fault per field that does not fit the schema.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
        manifest = Manifest.model_validate_json(text)
        known, came = manifest.model_dump(mode="json"), json.loads(text)
    except ValidationError as error:
        faults = [
            Fault(f"{MANIFEST}: {'.'.join(map(str, fault['loc'])) or 'content'}", fault["msg"])
            for fault in error.errors()
        ]
        raise ReaderError(*faults) from error
    except OSError as error:
        raise ReaderError(Fault(MANIFEST, f"cannot be read: {error.strerror}")) from error
    if known != came:
        # A missing field was filled with its default, or a value was converted.
        raise ReaderError(Fault(MANIFEST, "fields are missing or of another type", SCHEMA.name))
    return manifest


def schema_text() -> str:
    """The JSON Schema of `Manifest`, as ``release.schema.json`` holds it."""
    schema = Manifest.model_json_schema(mode="serialization")
    for entry in (schema, *schema["$defs"].values()):
        if "properties" in entry:
            # As `read_manifest` asks: every field, also one that the class has a default for.
            entry["required"], entry["additionalProperties"] = [*entry["properties"]], False
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _classes(release: Release, settings: ExportSettings) -> tuple[ClassEntry, ...]:
    strangers = sorted(set(settings.findings) - set(release.classes))
    if strangers:
        raise SettingsError(
            Fault(
                f"export.findings.{strangers[0]}",
                f"no class has this name ({len(strangers)} such)",
                ", ".join(release.classes),
                "rename or remove it",
            )
        )
    findings = BUILT_IN_FINDINGS | settings.findings
    samples, decision = release.per_class(), release.decision
    return tuple(
        ClassEntry(
            name=label,
            folder=folder,
            samples=samples[label],
            drawn=decision.drawn[label],
            accepted=decision.accepted[label],
            finding=findings.get(label),
        )
        for label, folder in zip(release.classes, folder_names(release.classes), strict=True)
    )


def _known_mode(mode: str) -> str:
    if mode not in MODES:
        raise DisclosureError(f"nobody knows what may be said of a release in mode '{mode}'")
    return mode


def _rounded(result: CheckResult) -> CheckResult:
    """What leaves is rounded: exact scores would say more about single patients."""
    if not (math.isfinite(result.value) and math.isfinite(result.limit)):
        raise DisclosureError(f"the check '{result.name}' gave no number: {result.value}")
    return CheckResult(
        name=result.name,
        passed=bool(result.passed),
        value=float(f"{result.value:.4g}"),
        limit=float(f"{result.limit:.4g}"),
        rejected=int(result.rejected),
        detail=result.detail,
    )
