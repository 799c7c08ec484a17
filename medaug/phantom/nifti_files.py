"""A phantom patient as two NIfTI files, stored in one of several axis orders.

``ct.nii.gz`` holds HU in int16; ``lesions.nii.gz`` holds 0, or the kind of the lesion: 1 cyst,
2 metastasis, 3 haemangioma.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medaug.phantom.dealing import KINDS
from medaug.phantom.patient import PhantomPatient

nib: Any = nibabel  # its functions are typed only in part

# What real files come in: where the first, second and third array axis run to.
ORIENTATIONS = ("RAS", "LAS", "LPS", "RPI", "ASL")


def write_nifti(patient: PhantomPatient, folder: Path, marker: str | None = None) -> None:
    """Write ``folder/ct.nii.gz`` and ``folder/lesions.nii.gz``.

    Args:
        patient: whom to write.
        folder: an existing folder.
        marker: a text to plant in the headers' texts and in an extension.
    """
    orientation = ORIENTATIONS[patient.number // 2 % len(ORIENTATIONS)]
    stored = nib.orientations.io_orientation(patient.geometry.affine)
    turn = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(orientation))
    kinds = np.array([0, *(1 + KINDS.index(lesion.kind) for lesion in patient.lesions)], np.uint8)
    for name, array in (("ct", patient.voxels), ("lesions", kinds[patient.labels])):
        image = nib.Nifti1Image(array, patient.geometry.affine).as_reoriented(turn)
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = f"{marker or 'phantom'} {patient.number:04d}".encode()
        image.header["db_name"] = (marker or "phantom").encode()
        image.header["aux_file"] = (marker or "none").encode()
        note = f"PHANTOM^{patient.number:04d} {marker or ''}".rstrip()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", note.encode()))
        nib.save(image, folder / f"{name}.nii.gz")
