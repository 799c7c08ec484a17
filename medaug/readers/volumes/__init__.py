"""Volumes that are not DICOM: NIfTI, NRRD, MetaImage, NumPy, TIFF, and what marks lesions on them.

Each format has a file here and gives a `file.VolumeFile`; `cases` pairs images with label maps,
masks or tables, `msd` follows a ``dataset.json``.
"""
