"""Write a release: all of it, or nothing.

Only a `Release` gets this far. Before the finished folder gets its name, the release is read back
from it, and `Release` asks once more whether these are the pixels that were approved.
"""

from __future__ import annotations

from pathlib import Path

from medaug.atomic import replacing, write_json
from medaug.domain import Release, Window
from medaug.errors import DisclosureError
from medaug.export.arrays import NPZ, write_npz
from medaug.export.datasheet import DATASHEET, datasheet
from medaug.export.dicom import write_dicom
from medaug.export.layout import MASKS, depth_of
from medaug.export.manifest import MANIFEST, Manifest, describe
from medaug.export.nifti import write_nifti, write_nifti_masks
from medaug.export.png import write_png, write_png_masks
from medaug.export.release import load_release
from medaug.export.settings import ExportSettings
from medaug.export.sums import SUMS, digests_of, sums_text
from medaug.forbidden import forbidden_words
from medaug.progress import Progress, Silent

_NOBODY = Silent()


def write_release(
    release: Release,
    folder: Path,
    settings: ExportSettings,
    *,
    name: str,
    seed: int,
    window: Window,
    slice_mm: float | None = None,
    progress: Progress = _NOBODY,
    ledger: tuple[int, str] | None = None,
) -> None:
    """Write ``release`` to ``folder``, in place of what may stand there.

    Args:
        release: what the gate let through.
        folder: takes ``npz/``, ``png/``, ``nifti/``, ``dicom/``, folders of masks, and the papers.
        settings: formats and words.
        name: of the study; it stands in the release.
        seed: of the DICOM identifiers, not negative and of any size. It is not written, but a
            small number can be guessed from the identifiers: pass one that says nothing else.
        window: what the generator draws, in the release's unit; viewers start with it.
        slice_mm: between adjacent slices that are channels; a pixel's size where nothing is said.
        progress: told of every sample and format.
        ledger: number and hash of the entry of the site's ledger that records this release.

    Raises:
        DisclosureError: if ``release`` is none, was changed after its approval, or its papers
            would say what nobody may say. Nothing is left behind.
        SettingsError: if the settings do not fit this release.
        OSError: if the disk is full or not writable. Nothing is left behind.
    """
    if not isinstance(release, Release):
        raise DisclosureError(f"only a Release may leave; this is a {type(release).__name__}")
    manifest = describe(release, settings, name, window, slice_mm, ledger)
    paper = datasheet(manifest)
    if words := forbidden_words(manifest.model_dump_json() + paper):
        raise DisclosureError(f"the release's papers would say: {', '.join(sorted(set(words)))}")
    with replacing(folder) as temporary:
        temporary.mkdir()
        _write_formats(release, manifest, temporary, seed, progress)
        write_json(temporary / MANIFEST, manifest.model_dump(mode="json"))
        (temporary / DATASHEET).write_text(paper, encoding="utf-8", newline="\n")
        text = sums_text(digests_of(temporary))
        (temporary / SUMS).write_text(text, encoding="utf-8", newline="\n")
        load_release(temporary)


def _write_formats(
    release: Release, manifest: Manifest, folder: Path, seed: int, progress: Progress
) -> None:
    planes = len(release) * depth_of(release.pixels.shape[1:])
    write_npz(release, folder / NPZ)
    if "png" in manifest.formats:
        progress.start("writing PNG", planes)
        write_png(release, manifest, folder / "png", progress)
        if release.masks is not None:
            write_png_masks(release, manifest, folder / MASKS["png"])
    if "nifti" in manifest.formats:
        progress.start("writing NIfTI", len(release))
        write_nifti(release, manifest, folder / "nifti", progress)
        if release.masks is not None:
            write_nifti_masks(release, release.masks, manifest, folder / MASKS["nifti"])
    if "dicom" in manifest.formats:
        progress.start("writing DICOM", planes)
        write_dicom(release, manifest, folder / "dicom", seed, progress)
