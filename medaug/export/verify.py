"""What the receiver of a release runs: is it whole, reviewed, and marked as synthetic?

Three questions, in this order. Files: is every one there, under its name, bit for bit, and
none besides? Papers: does the manifest fit the schema and the gate's own rules, and does the
decision cover the pixels? Marks: does every DICOM file say that it is synthetic?

The digests protect against damage and against careless change. Whoever rewrites the files and
the digests together is not found: that takes a signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medaug.domain import Release, Window
from medaug.errors import DisclosureError, Fault, ReaderError
from medaug.export.datasheet import DATASHEET
from medaug.export.dicom import missing_marks
from medaug.export.layout import MASKS, depth_of, masked_slices
from medaug.export.manifest import MANIFEST, Manifest, describe_image, read_manifest
from medaug.export.release import assemble
from medaug.export.sums import SUMS, digests_of, sums_text
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


def verify_release(folder: Path) -> Verification:
    """Check a release folder.

    Where files are damaged, the deeper questions are not asked: they would only repeat it.

    Raises:
        ReaderError: if ``folder`` is no folder at all.
    """
    if not folder.is_dir():
        raise ReaderError(Fault(str(folder), "no such folder", f"a folder with {SUMS}"))
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
        *_count_problems(manifest, list(digests)),
        *_mark_problems(folder, list(digests)),
    ]
    return Verification(tuple(problems), _facts(manifest, len(digests)))


def _file_problems(folder: Path, digests: dict[str, str]) -> list[str]:
    """What differs between the folder and its `SUMS`."""
    odd = [
        f"{path.relative_to(folder).as_posix()} is neither a file nor a folder"
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not (path.is_file() or path.is_dir())
    ]
    if odd:
        return odd
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
        "the NPZ holds other classes or counts than the manifest": counted
        == {entry.name: entry.samples for entry in manifest.classes},
        "the manifest gives the pixels another meaning than the NPZ": manifest.image
        == describe_image(release, Window(*manifest.image.window), manifest.image.slice_mm),
        "the manifest and the NPZ differ on whether there are masks": manifest.masks
        == (release.masks is not None),
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
            (1 if kind == "nifti" else drawn) * (manifest.masks and kind in manifest.formats),
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


def _mark_problems(folder: Path, names: list[str]) -> list[str]:
    files = [name for name in names if name.endswith(".dcm")]
    return [f"{name}: {mark}" for name in files for mark in missing_marks(folder / name)]


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
    }
