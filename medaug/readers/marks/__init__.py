"""DICOM objects that mark lesions: mask series, segmentations, contours, reports, tables of points.

`kinds` reads each by the rule of its kind; all answer as a `mark.Mark`, and `placing` brings
what they draw onto the grid of the image.
"""
