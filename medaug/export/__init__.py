"""Release → files that another hospital can open and check.

- `medaug.export.write.write_release`: NPZ, 16-bit PNG, NIfTI and DICOM, ``release.json``,
  ``DATASHEET.md`` and ``SHA256SUMS``, all or nothing.
- `medaug.export.release.load_release`: the folder back to a `Release`.
- `medaug.export.verify.verify_release`: what the receiver runs; needs no torch.

::

    write_release(release, run / "release", ExportSettings(body_part="LIVER"),
                  name="liver", seed=7, window=Window(-100, 200))
    found = verify_release(run / "release")
    print(found.problems[0] if found.problems else found.summary())

Outputs are built from an allow-list, never by cleaning a copy: a `Release` holds pixels,
classes and the decision of the gate, and nothing of a patient's file.
"""
