"""Studies from an archive, over DICOMweb or DIMSE, into an ordinary folder (extra ``[pacs]``).

`address` says what is asked of whom, `fetch` brings the files.
"""
