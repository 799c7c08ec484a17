"""The two layouts in which segmentation data are handed round, for releases that have masks.

``msd/`` is laid out as the Medical Segmentation Decathlon [1]_: images in ``imagesTr/``, label maps
in ``labelsTr/``, and a ``dataset.json`` that lists them. Adjacent slices are the channels of an
image of four axes there, as in its multi-parametric tasks.

``nnunet/Dataset500_<name>/`` is laid out as nnU-Net v2 [2]_: a file for each channel, and a
``dataset.json`` that counts. Point ``nnUNet_raw`` at ``nnunet/``, or copy the folder to where it
points, under a number that is free.

In both, a case is ``<class>_<number>`` with the number of every other format, and a label map has 0
outside the lesion and 1 + the index of its class inside. Every sample is for training: a score on
drawn images says nothing about patients.

.. [1] Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9
.. [2] https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medaug.domain import Release
from medaug.errors import Fault, SettingsError
from medaug.export.counts import DATASET, MSD, channels_of, nnunet_folder
from medaug.export.layout import sample_name
from medaug.export.manifest import Manifest
from medaug.export.marks import marks_of
from medaug.export.nifti import save_image, save_labels, volume_of
from medaug.export.settings import SEGMENTATION
from medaug.progress import Progress

_ENDING = ".nii.gz"
_BACKGROUND = "background"
_RESERVED = frozenset({_BACKGROUND, "ignore"})  # words of nnU-Net's own


def refuse_unfit(release: Release, formats: tuple[str, ...]) -> None:
    """Refuse layouts for segmentation where they cannot be.

    Raises:
        SettingsError: if the release has no masks, or a class has a name that the layouts reserve.
    """
    if faults := layout_faults(formats, release.classes, release.masks is not None):
        raise SettingsError(*faults)


def layout_faults(
    formats: tuple[str, ...], classes: tuple[str, ...], with_masks: bool
) -> list[Fault]:
    """Why samples cannot be laid out for segmentation, where that is asked for."""
    kinds = [kind for kind in SEGMENTATION if kind in formats]
    if not kinds:
        return []
    where, faults = f"export.formats: {', '.join(kinds)}", []
    if not with_masks:
        faults.append(
            Fault(where, "the release has no masks", "samples with masks", "generator.outputs")
        )
    faults += [
        Fault(where, f"a class is called '{label}'", "any other name")
        for label in classes
        if label.lower() in _RESERVED
    ]
    return faults


def write_msd(
    release: Release,
    masks: NDArray[np.bool_],
    manifest: Manifest,
    folder: Path,
    progress: Progress,
) -> None:
    """Write the Medical Segmentation Decathlon's layout into ``folder``, the release folder."""
    root = folder / MSD
    _make_folders(root)
    for case, number in _cases(release, manifest):
        sample = release.pixels[number]
        # (column, row, slice), or with adjacent slices (column, row, 1, channel)
        voxels = volume_of(sample)
        if channels_of(manifest) > 1:
            voxels = voxels[:, :, None]
        save_image(root / "imagesTr" / f"{case}{_ENDING}", voxels, release, manifest)
        _save_labels(root, case, masks[number], int(release.labels[number]), manifest)
        progress.advance()
    channels = channels_of(manifest)
    document = {
        **_about(manifest),
        "tensorImageSize": "4D" if channels > 1 else "3D",
        "modality": {str(at): manifest.image.modality for at in range(channels)},
        "labels": {str(value): name for name, value in _labels(manifest).items()},
        "numTraining": len(release),
        "numTest": 0,
        "test": [],
    }
    with (root / DATASET).open("w", encoding="utf-8", newline="\n") as handle:
        # Line by line: of a million cases the list is larger than a piece of the release.
        handle.write(json.dumps(document, indent=1, ensure_ascii=False)[:-2] + ',\n "training": [')
        for case, number in _cases(release, manifest):
            pair = {part: f"./{part}sTr/{case}{_ENDING}" for part in ("image", "label")}
            handle.write(f"{',' if number else ''}\n  {json.dumps(pair)}")
        handle.write("\n ]\n}\n")


def write_nnunet(
    release: Release,
    masks: NDArray[np.bool_],
    manifest: Manifest,
    folder: Path,
    progress: Progress,
) -> None:
    """Write the layout of nnU-Net v2 into ``folder``, the release folder."""
    root = folder / nnunet_folder(manifest)
    _make_folders(root)
    for case, number in _cases(release, manifest):
        for at, channel in enumerate(release.pixels[number]):
            path = root / "imagesTr" / f"{case}_{at:04d}{_ENDING}"
            save_image(path, volume_of(channel), release, manifest)
        _save_labels(root, case, masks[number], int(release.labels[number]), manifest)
        progress.advance()
    # nnU-Net clips and scales what is called CT by its own rule, and standardises the rest.
    channels = range(channels_of(manifest))
    document = {
        **_about(manifest),
        "channel_names": {str(at): manifest.image.modality for at in channels},
        "labels": _labels(manifest),
        "numTraining": len(release),
        "file_ending": _ENDING,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (root / DATASET).write_text(text, encoding="utf-8", newline="\n")


def _make_folders(root: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)


def _cases(release: Release, manifest: Manifest) -> Iterator[tuple[str, int]]:
    """Name and number of every sample."""
    for number, label in enumerate(release.labels):
        yield f"{manifest.classes[label].folder}_{sample_name(number)}", number


def _save_labels(
    root: Path, case: str, mask: NDArray[np.bool_], label: int, manifest: Manifest
) -> None:
    values = volume_of(mask.astype(np.uint8) * np.uint8(label + 1))
    path = root / "labelsTr" / f"{case}{_ENDING}"
    save_labels(path, values, manifest, highest=len(manifest.classes))


def _labels(manifest: Manifest) -> dict[str, int]:
    names = (_BACKGROUND, *(entry.name for entry in manifest.classes))
    return {name: value for value, name in enumerate(names)}


def _about(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "description": f"{manifest.notice}. {manifest.description}".strip(),
        "reference": f"medaug {manifest.medaug}",
        **marks_of(manifest),
    }
