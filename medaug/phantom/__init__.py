"""A parametric liver-CT phantom: patients who do not exist, in files like those of a hospital.

`medaug demo` runs the whole road on it, and the privacy tests use it where the true source of
every lesion must be known. `make_patient` is pure and keeps a patient in memory; `write_cohort`
writes a folder of them, half as DICOM CT + DICOM SEG, half as NIfTI + label map.

>>> from medaug.phantom import make_patient
>>> patient = make_patient(seed=0, number=3)
>>> patient.voxels.dtype, patient.voxels.shape == patient.geometry.shape
(dtype('int16'), True)
>>> sorted({lesion.kind for lesion in patient.lesions})
['cyst', 'haemangioma', 'metastasis']
"""

from medaug.phantom.cohort import write_cohort
from medaug.phantom.dealing import KINDS, Kind
from medaug.phantom.lesions import PhantomLesion
from medaug.phantom.patient import PhantomPatient, make_patient
from medaug.phantom.rendering import lesion_renderer, render_lesion

__all__ = [
    "KINDS",
    "Kind",
    "PhantomLesion",
    "PhantomPatient",
    "lesion_renderer",
    "make_patient",
    "render_lesion",
    "write_cohort",
]
