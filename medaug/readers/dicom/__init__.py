"""DICOM images: a file, what its pixels mean, and the volume that slices form.

`file` finds the data set, `header` what it says, `frames` and `plane` where its images lie,
`values` what stored numbers measure; `stack` and `regular` make volumes of slices, `cases`
brings images and the marks on them together.
"""
