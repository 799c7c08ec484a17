"""Write a release: all of it, or nothing.

Only a `Release` gets this far. Before the finished folder gets its name, the release is read back
from it, and `Release` asks once more whether these are the pixels that were approved.

Every format is written sample by sample, or in pieces of a megabyte. A release of more samples
than memory holds is one whose ``pixels`` (and ``masks``) are mapped from a file (`numpy.memmap`).
Approval, writing and reading back then go through it at constant memory, provided that ``hdf5``
stands for ``npz`` among the formats.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from medaug.atomic import replacing, write_json
from medaug.domain import Release, Window
from medaug.errors import DisclosureError
from medaug.export.arrays import NPZ, write_npz
from medaug.export.datasheet import DATASHEET, datasheet
from medaug.export.dicom import write_dicom
from medaug.export.hdf5 import HDF5, write_hdf5
from medaug.export.layout import MASKS, depth_of
from medaug.export.manifest import MANIFEST, Manifest, describe
from medaug.export.nifti import write_nifti, write_nifti_masks
from medaug.export.png import write_png, write_png_masks
from medaug.export.release import load_release
from medaug.export.segmentation import refuse_unfit, write_msd, write_nnunet
from medaug.export.settings import ExportSettings
from medaug.export.shards import write_shards
from medaug.export.signing import SecretKey, load_secret_key
from medaug.export.sums import write_sums
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
    data_digest: str | None = None,
    day: date | None = None,
) -> None:
    """Write ``release`` to ``folder``, in place of what may stand there.

    Args:
        release: what the gate let through.
        folder: takes a folder for each format, folders of masks, and the papers.
        settings: formats and words.
        name: of the study; it stands in the release.
        seed: of the DICOM identifiers, not negative and of any size. It is not written, but a
            small number can be guessed from the identifiers: pass one that says nothing else.
        window: what the generator draws, in the release's unit; viewers start with it.
        slice_mm: between adjacent slices that are channels; a pixel's size where nothing is said.
        progress: told of every sample and format.
        ledger: number and hash of the entry of the site's ledger that records this release.
        data_digest: `PatchSet.digest` of the training part, where it was made with tokens of the
            site (the readers do): without them, others could recognise known patches by it. It is
            left out with differential privacy.
        day: of release, for the manifest and DICOM; no date is written where none is given.

    Raises:
        DisclosureError: if ``release`` is none, was changed after its approval, or its papers
            would say what nobody may say. Nothing is left behind.
        SettingsError: if the settings do not fit this release, or the key cannot sign.
        OSError: if the disk is full or not writable. Nothing is left behind.
    """
    if not isinstance(release, Release):
        raise DisclosureError(f"only a Release may leave; this is a {type(release).__name__}")
    refuse_unfit(release, settings.formats)
    key = None if settings.sign_with is None else load_secret_key(settings.sign_with)
    manifest = describe(release, settings, name, window, slice_mm, ledger, data_digest, day)
    refuse_words(manifest)
    with replacing(folder) as temporary:
        temporary.mkdir()
        _write_formats(release, manifest, settings, temporary, seed, progress)
        write_papers(manifest, temporary, key)
        load_release(temporary)


def refuse_words(manifest: Manifest) -> None:
    """Raise `DisclosureError` if the papers would say what nobody may say."""
    if words := forbidden_words(manifest.model_dump_json() + datasheet(manifest)):
        raise DisclosureError(f"the release's papers would say: {', '.join(sorted(set(words)))}")


def write_papers(manifest: Manifest, folder: Path, key: SecretKey | None) -> None:
    """Write what stands beside the pictures that lie in ``folder``: the last act of a release."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    (folder / DATASHEET).write_text(datasheet(manifest), encoding="utf-8", newline="\n")
    write_sums(folder, manifest.pixels_digest, key)


def _write_formats(
    release: Release,
    manifest: Manifest,
    settings: ExportSettings,
    folder: Path,
    seed: int,
    progress: Progress,
) -> None:
    planes = len(release) * depth_of(release.pixels.shape[1:])
    if "npz" in manifest.formats:
        write_npz(release, manifest, folder / NPZ)
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
        write_dicom(release, manifest, settings, folder / "dicom", seed, progress)
    _write_packs(release, manifest, folder, progress)


def _write_packs(release: Release, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """What takes a release as a data set: large files, shards, layouts for segmentation."""
    if "hdf5" in manifest.formats:
        progress.start("writing HDF5", len(release))
        write_hdf5(release, manifest, folder / HDF5, progress)
    if "shards" in manifest.formats:
        progress.start("writing shards", len(release))
        write_shards(release, manifest, folder, progress)
    if "msd" in manifest.formats and release.masks is not None:
        progress.start("writing the layout of MSD", len(release))
        write_msd(release, release.masks, manifest, folder, progress)
    if "nnunet" in manifest.formats and release.masks is not None:
        progress.start("writing the layout of nnU-Net", len(release))
        write_nnunet(release, release.masks, manifest, folder, progress)
