"""The store gives back what went in, or says that it cannot."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from medaug.domain import LesionPatch, PatchLocation, PatchSet, PatientKey, Unit
from medaug.errors import CohortError, RunFolderError, SettingsError
from medaug.patching.extract import SkippedLesion
from medaug.patching.store import PatchStoreWriter, read_patches, summarise

SKIPPED = SkippedLesion("2.25.99", "cyst", "case3", "its longest diameter is 3.0 mm, below Ø 5 mm")


def patch_number(row: int, size: int = 32) -> LesionPatch:
    rng = np.random.default_rng(row)
    return LesionPatch(
        image=rng.normal(40, 300, (1, size, size)).astype(np.float32),
        mask=rng.random((size, size)) < 0.2,
        label=("metastasis", "cyst", "haemangioma")[row % 3],
        patient=PatientKey(f"{row // 4:032x}"),
        location=PatchLocation(
            f"case{row // 4}", f"2.25.{row // 2}", row, (0.1 * row, -2.5, 1e3), 0.75, 1.0, 12.25
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def written(path: Path, patches, skipped=(), **options) -> Path:
    with PatchStoreWriter(path, **options) as store:
        for patch in patches:
            store.append(patch)
        for lesion in skipped:
            store.skip(lesion)
    return path


def as_set(patches: list[LesionPatch]) -> PatchSet:
    """The slow, obvious twin of a store."""
    classes = tuple(sorted({patch.label for patch in patches}))
    return PatchSet(
        images=np.stack([patch.image for patch in patches]),
        masks=np.stack([patch.mask for patch in patches]),
        labels=np.array([classes.index(patch.label) for patch in patches]),
        classes=classes,
        patients=tuple(patch.patient for patch in patches),
        locations=tuple(patch.location for patch in patches),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


class TestWhatGoesInComesOut:
    @pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
    def test_digest_and_columns(self, tmp_path, count):
        patches = [patch_number(row) for row in range(count)]
        found = read_patches(written(tmp_path / "p.h5", patches, [SKIPPED]))
        expected = as_set(patches)
        assert found.digest == expected.digest
        assert found.locations == expected.locations
        assert (found.unit, found.modality, found.patients_known) == (Unit.HOUNSFIELD, "CT", True)
        assert found.images.dtype == np.float32
        assert found.masks.dtype == np.bool_

    def test_the_same_patches_give_the_same_bytes(self, tmp_path):
        patches = [patch_number(row) for row in range(70)]
        first = written(tmp_path / "a.h5", patches, [SKIPPED]).read_bytes()
        time.sleep(1.1)  # HDF5's times count seconds
        assert written(tmp_path / "b.h5", patches, [SKIPPED]).read_bytes() == first

    def test_of_some_patients(self, tmp_path):
        patches = [patch_number(row) for row in range(150)]
        path = written(tmp_path / "p.h5", patches)
        wanted = {PatientKey(f"{number:032x}") for number in (0, 7, 20, 36, 999)}
        found = read_patches(path, wanted)
        assert found.digest == as_set(patches).of_patients(wanted).digest
        assert len(found) == 4 + 4 + 4 + 4
        assert len(read_patches(path, set())) == 0

    def test_without_outlines_and_patients(self, tmp_path):
        patches = [replace(patch_number(row), mask=None) for row in range(5)]
        found = read_patches(written(tmp_path / "p.h5", patches, patients_known=False))
        assert found.masks is None
        assert not found.patients_known

    def test_classes_without_a_patch_are_kept(self, tmp_path):
        path = written(tmp_path / "p.h5", [patch_number(1)], classes=["zoster", "cyst", "abscess"])
        assert read_patches(path).classes == ("abscess", "cyst", "zoster")
        assert summarise(path)["classes"]["abscess"] == {"patches": 0, "lesions": 0, "patients": 0}

    def test_the_summary(self, tmp_path):
        patches = [patch_number(row) for row in range(12)]
        small = replace(patches[4].location, scale=0.5, mm_per_pixel=1.5)
        patches[4] = replace(patches[4], location=small)
        assert summarise(written(tmp_path / "p.h5", patches, [SKIPPED])) == {
            "patches": 12,
            "size": [32, 32],
            "mm_per_pixel": 0.75,
            "unit": "HU",
            "modality": "CT",
            "patients_known": True,
            "classes": {
                "cyst": {"patches": 4, "lesions": 4, "patients": 3},
                "haemangioma": {"patches": 4, "lesions": 4, "patients": 3},
                "metastasis": {"patches": 4, "lesions": 4, "patients": 3},
            },
            "skipped": [
                {"lesion": "2.25.99", "label": "cyst", "case": "case3", "reason": SKIPPED.reason}
            ],
            "scaled": 1,
        }

    def test_no_path_inside(self, tmp_path):
        path = written(tmp_path / "p.h5", [patch_number(row) for row in range(3)], [SKIPPED])
        raw = path.read_bytes()
        assert str(tmp_path).encode() not in raw
        assert b"/tmp" not in raw

    def test_any_hdf5_program_reads_it(self, tmp_path):
        patches = [patch_number(row) for row in range(3)]
        with h5py.File(written(tmp_path / "p.h5", patches)) as file:
            np.testing.assert_array_equal(file["images"][2], patches[2].image)
            assert file["images"].compression == "gzip"  # lzf exists in h5py alone


class TestMemoryIsFlat:
    def test_four_times_the_cohort_needs_no_more(self, tmp_path):
        def peak(count: int) -> int:
            patch = patch_number(0, 64)
            tracemalloc.start()
            with PatchStoreWriter(tmp_path / "p.h5") as store:
                for row in range(count):
                    place = replace(patch.location, lesion=f"2.25.{row}")
                    store.append(
                        replace(patch, image=patch.image + np.float32(row), location=place)
                    )
            highest = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return highest

        peak(300)  # imports and caches
        assert peak(2400) < peak(600) + 200_000 < 2e6  # the patches themselves are 48 MB


class TestOneKindPerStore:
    """All patches of a store share size, unit, modality, pixel size and having an outline."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"modality": "MR"}, "modality MR, and CT in the patches before"),
            ({"unit": Unit.SUV}, "unit SUV, and HU in the patches before"),
            ({"mask": None}, "outlined False, and True"),
            (
                {"image": np.zeros((1, 40, 40), np.float32)},
                r"shape \[1, 40, 40\], and \[1, 32, 32\]",
            ),
            ({"location": replace(patch_number(0).location, mm_per_pixel=0.9)}, "mm_per_pixel 0.9"),
        ],
    )
    def test_a_mixture_is_refused_and_leaves_nothing(self, tmp_path, change, words):
        mixed = [patch_number(0), replace(patch_number(1), **change)]
        with pytest.raises(SettingsError, match=words):
            written(tmp_path / "p.h5", mixed)
        assert list(tmp_path.iterdir()) == []

    def test_a_class_that_was_not_given(self, tmp_path):
        with pytest.raises(SettingsError, match="class 'metastasis'"):
            written(tmp_path / "p.h5", [patch_number(0)], classes=["cyst"])


class TestNothingHalf:
    """A store is whole or absent; a damaged one is not believed."""

    def test_no_lesion_became_a_patch(self, tmp_path):
        path = written(tmp_path / "p.h5", [], [SKIPPED])
        with pytest.raises(CohortError, match="1 lesions were skipped"):
            read_patches(path)
        assert summarise(path)["skipped"][0]["reason"] == SKIPPED.reason
        assert summarise(path)["patches"] == 0

    def test_missing(self, tmp_path):
        with pytest.raises(RunFolderError, match="run the extraction first"):
            read_patches(tmp_path / "patches" / "p.h5")

    def test_any_damage_is_noticed(self, tmp_path):
        path = written(tmp_path / "p.h5", [patch_number(row) for row in range(9)], [SKIPPED])
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [whole[:length] for length in (0, 100, 512, 5000, len(whole) - 1)]
        damaged += [
            whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
            for at in [0, 63, *rng.integers(512, len(whole), 60).tolist()]
        ]
        damaged += [b"not HDF5 at all", whole + b"\0"]
        for content in damaged:
            path.write_bytes(content)
            for read in (read_patches, summarise):
                with pytest.raises(RunFolderError, match="run the extraction again"):
                    read(path)

    def test_a_failure_leaves_the_old_store(self, tmp_path):
        path = written(tmp_path / "p.h5", [patch_number(row) for row in range(3)])
        before = path.read_bytes()

        def interrupted():
            yield patch_number(7)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            written(path, interrupted())
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a file size limit")
    @pytest.mark.parametrize("limit", [300, 5_000, 60_000, 500_000])
    def test_a_full_disk_is_an_error_and_not_a_crash(self, tmp_path, limit):
        """A limit on the size of files stands for the full disk."""
        program = f"""
import resource, signal, sys
from pathlib import Path
import numpy as np
from medaug.domain import *
from medaug.patching.store import PatchStoreWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
noise = np.random.default_rng(0)
try:
    with PatchStoreWriter(Path(sys.argv[1])) as store:
        for row in range(200):
            store.append(LesionPatch(
                noise.normal(size=(1, 64, 64)).astype(np.float32), None, "cyst",
                PatientKey("0" * 32), PatchLocation("case", "2.25.1", row, (0., 0., 0.), 1.0),
                Unit.HOUNSFIELD, "CT"))
except OSError as error:
    print(error.errno)
"""
        path = tmp_path / "p.h5"
        path.write_bytes(b"old")
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "27", "")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
