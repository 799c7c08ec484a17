"""Volume + lesions → patches of one size, and the file they are kept in.

- `medaug.patching.extract.extract_patches`: one case → patches and skipped lesions, one at a time.
- `medaug.patching.store.PatchStoreWriter`: appends them to one HDF5 file; memory stays flat.
- `medaug.patching.store.read_patches`: the file → a `PatchSet`, of some patients or of all.
- `medaug.patching.store.summarise`: the file → counts per class, what was skipped and why.

::

    settings = PatchingSettings(mm_per_pixel=1.0, slices="largest")
    with PatchStoreWriter(folder / "patches.h5") as store:
        for found in extract_patches(case, settings):
            store.skip(found) if isinstance(found, SkippedLesion) else store.append(found)
    patches = read_patches(folder / "patches.h5")

A patch keeps the unit of its volume (HU stays HU, float32). The window that a generator sees is
the generator's.
"""
