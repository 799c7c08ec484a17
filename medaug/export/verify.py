"""What the receiver of a release runs: is it whole, reviewed, and marked as synthetic?

Three questions, in this order. Files: is every one there, under its name, bit for bit, and
none besides? Papers: does the manifest fit the schema and the gate's own rules, and does the
decision cover the pixels? Marks: does every DICOM file say that it is synthetic?

The digests protect against damage and against careless change. Whoever rewrites the files and
the digests together is found by the signature alone, with the public key of the institution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medaug.domain import Release, Window
from medaug.errors import DisclosureError, Fault, ReaderError
from medaug.export.counts import segmentation_problems
from medaug.export.datasheet import DATASHEET
from medaug.export.entries import events_of
from medaug.export.layout import MASKS, depth_of, masked_slices
from medaug.export.manifest import MANIFEST, Manifest, describe_image, read_manifest
from medaug.export.marks import wrong_marks
from medaug.export.quick_marks import bears_marks
from medaug.export.release import WHOLE, assemble
from medaug.export.shards import shard_problems
from medaug.export.signing import PublicKey, load_public_key, signature_fault, signer_of
from medaug.export.sums import SIGNATURE, SUMS, digests_of, entries_of, sums_text
from medaug.export.words import MODES
from medaug.forbidden import forbidden_words

_SUFFIX = {"png": "png", "nifti": "nii.gz", "dicom": "dcm"}


@dataclass(frozen=True)
class Verification:
    """What was found; ``problems`` are sentences, the first thing wrong comes first."""

    problems: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """JSON: ``{"ok", "problems": [sentences], "facts": {…}}``."""
        return {"ok": self.ok, "problems": list(self.problems), "facts": self.facts}

    def summary(self) -> str:
        """The facts, one per line."""
        return "\n".join(f"  {name}: {value}" for name, value in self.facts.items())


def verify_release(folder: Path, signed_by: Path | None = None) -> Verification:
    """Check a release folder.

    Where files are damaged, the deeper questions are not asked: they would only repeat it.

    Args:
        folder: as it was received.
        signed_by: file with the public key of the institution, got by another way than the release.

    Raises:
        ReaderError: if ``folder`` is no folder at all.
        SettingsError: if ``signed_by`` holds no public key, or without the package cryptography.
    """
    key = None if signed_by is None else load_public_key(signed_by)
    if not folder.is_dir():
        raise ReaderError(Fault(str(folder), "no such folder", f"a folder with {SUMS}"))
    _, odd = entries_of(folder)
    if odd:
        sentences = (f"{name} is neither a file nor a folder" for name in odd)
        return Verification(tuple(sentences))
    if problems := _signature_problems(folder, key):
        return Verification(tuple(problems))
    digests = digests_of(folder)
    if problems := _file_problems(folder, digests):
        return Verification(tuple(problems), {"files": len(digests)})
    try:
        manifest = read_manifest(folder)
        release = assemble(folder, manifest)
    except ReaderError as error:
        return Verification(tuple(map(str, error.faults)), {"files": len(digests)})
    except DisclosureError as error:
        return Verification(error.reasons, {"files": len(digests)})
    problems = [
        *_manifest_problems(manifest, release),
        *_word_problems(folder, manifest),
        *_whole_problems(folder, manifest),
        *_count_problems(manifest, list(digests)),
        *segmentation_problems(manifest, list(digests)),
        *shard_problems(folder, manifest, list(digests)),
        *_mark_problems(folder, list(digests), manifest),
    ]
    facts = _facts(manifest, len(digests)) | {"signature": _signature_fact(folder, key)}
    return Verification(tuple(problems), facts)


def _signature_problems(folder: Path, key: PublicKey | None) -> list[str]:
    """Asked first: a release that somebody rewrote as a whole has nothing else to show."""
    if not (folder / SIGNATURE).is_file():
        return [] if key is None else [f"{SIGNATURE} is missing: nobody signed this release"]
    signature = (folder / SIGNATURE).read_bytes()
    if key is None:
        formed = signer_of(signature) is not None
        return [] if formed else [f"{SIGNATURE} is not a signature as medaug or minisign writes it"]
    sums = folder / SUMS
    fault = signature_fault(signature, sums.read_bytes() if sums.is_file() else b"", key)
    return [] if fault is None else [f"{SIGNATURE} {fault}"]


def _signature_fact(folder: Path, key: PublicKey | None) -> str:
    if key is not None:
        return f"by the key {key.name}, checked"
    if not (folder / SIGNATURE).is_file():
        return "none"
    claimed = signer_of((folder / SIGNATURE).read_bytes())
    return f"there is one that names the key {claimed}; not checked: give --signed-by PUBLIC_KEY"


def _file_problems(folder: Path, digests: dict[str, str]) -> list[str]:
    """What differs between the folder and its `SUMS`."""
    try:
        written = (folder / SUMS).read_bytes()
    except OSError:
        return [f"{SUMS} is missing: nothing can be checked"]
    expected = sums_text(digests).encode()
    if written == expected:
        return []
    lines = [line.partition("  ") for line in written.decode("utf-8", "replace").splitlines()]
    listed = {name: digest for digest, _, name in lines}
    problems = [
        *(f"{name} is missing" for name in listed if name not in digests),
        *(f"{name} is not listed in {SUMS}" for name in digests if name not in listed),
        *(
            f"{name} was changed: its digest is not the one in {SUMS}"
            for name, digest in digests.items()
            if listed.get(name, digest) != digest
        ),
    ]
    return problems or [f"{SUMS} itself was changed: it is not as medaug writes it"]


def _manifest_problems(manifest: Manifest, release: Release) -> list[str]:
    """Where the manifest contradicts itself or the pixels."""
    policy, drawn = manifest.policy, sum(entry.drawn for entry in manifest.classes)
    accepted = sum(entry.accepted for entry in manifest.classes)
    counted = release.per_class()
    rules = {
        f"the mode '{manifest.mode}' is unknown": manifest.mode in MODES,
        "the mode is not the policy's": manifest.mode == policy.mode,
        "patch_level_only is not the policy's": manifest.patch_level_only
        == policy.patch_level_only,
        "the arrays have other classes or counts than the manifest": counted
        == {entry.name: entry.samples for entry in manifest.classes},
        "the manifest gives the pixels another meaning than the arrays": manifest.image
        == describe_image(release, Window(*manifest.image.window), manifest.image.slice_mm),
        "the manifest and the arrays differ on whether there are masks": manifest.masks
        == (release.masks is not None),
        "the events are not those of this cost and these checks": manifest.events
        == events_of(
            manifest.cost,
            [check.name for check in manifest.checks],
            evaluated=manifest.evaluation is not None,
        ),
        "with differential privacy no verdict and no digest of data is told": manifest.cost is None
        or (manifest.evaluation is None and manifest.data_digest is None),
        "more samples than accepted, or more accepted than drawn": all(
            entry.samples <= entry.accepted <= entry.drawn for entry in manifest.classes
        ),
        f"{accepted} of {drawn} candidates were accepted, fewer than the policy's share "
        f"{policy.min_acceptance}": accepted >= policy.min_acceptance * drawn,
    }
    return [f"{MANIFEST}: {sentence}" for sentence, holds in rules.items() if not holds]


def _word_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Claims that nobody may make, and the sentence of the mode that must be there."""
    problems = []
    for name in (MANIFEST, DATASHEET):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name} cannot be read: {error}")
            continue
        problems += [f"{name} claims '{word}'" for word in forbidden_words(text)]
        if name == DATASHEET and MODES.get(manifest.mode, "") not in text:
            problems.append(f"{name} does not say what the mode '{manifest.mode}' means")
    return problems


def _whole_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Whether each file that holds all of the release bears the mark, and the same pixels."""
    problems, told = [], [kind for kind in WHOLE if kind in manifest.formats]
    for kind in told:
        name, _, marks = WHOLE[kind]
        try:
            problems += [f"{name}: {mark}" for mark in wrong_marks(marks(folder / name), manifest)]
            if kind != told[0]:  # The first was read already.
                assemble(folder, manifest, kind)
        except ReaderError as error:
            problems += map(str, error.faults)
        except DisclosureError as error:
            problems += [f"{name}: {reason}" for reason in error.reasons]
    return problems


def _count_problems(manifest: Manifest, names: list[str]) -> list[str]:
    """Whether every format holds every sample, and its mask."""
    shape = manifest.image.shape
    depth, drawn = depth_of(shape), len(masked_slices(shape))
    # (folder, suffix, files of a sample)
    folders = [
        (kind, suffix, (1 if kind == "nifti" else depth) * (kind in manifest.formats))
        for kind, suffix in _SUFFIX.items()
    ]
    folders += [
        (
            folder,
            _SUFFIX[kind],
            (drawn if kind == "png" else 1) * (manifest.masks and kind in manifest.formats),
        )
        for kind, folder in MASKS.items()
    ]
    problems = []
    for folder, suffix, files in folders:
        for entry in manifest.classes:
            start = f"{folder}/{entry.folder}/"
            found = sum(name.startswith(start) and name.endswith(suffix) for name in names)
            wanted = entry.samples * files
            if found != wanted:
                problems.append(f"{start} holds {found} files, not {wanted}")
    return problems


def _mark_problems(folder: Path, names: list[str], manifest: Manifest) -> list[str]:
    swift = manifest.sop == "secondary-capture"
    files = [folder / name for name in names if name.endswith(".dcm")]
    files = [file for file in files if not (swift and bears_marks(file))]
    if not files:
        return []
    from medaug.export.dicom import missing_marks  # slow to load
    from medaug.export.dicom_kinds import sop_class

    sop = sop_class(manifest.sop, manifest.image.modality)
    return [
        f"{file.relative_to(folder)}: {mark}" for file in files for mark in missing_marks(file, sop)
    ]


def _facts(manifest: Manifest, files: int) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "medaug": manifest.medaug,
        "release": manifest.pixels_digest,
        "files": files,
        "formats": list(manifest.formats),
        "masks": manifest.masks,
        "samples": {entry.name: entry.samples for entry in manifest.classes},
        "mode": manifest.mode,
        "patch_level_only": manifest.patch_level_only,
        "checks": [result.name for result in manifest.checks],
        "intended_use": manifest.intended_use,
        "verdict": None if manifest.evaluation is None else manifest.evaluation.sentence,
    }
