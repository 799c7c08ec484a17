"""NumPy arrays: where they lie is said by a sidecar, and nothing is guessed."""

import json
import pickle
import re

import numpy as np
import pytest

from medaug.errors import ReaderError
from medaug.readers.files import SourceFile
from medaug.readers.settings import VolumesSource
from medaug.readers.source import scan
from medaug.readers.volumes.cases import read_header, volume_of
from medaug.readers.volumes.file import Wanted

AFFINE = [[-0.7, 0, 0, 90], [0, -0.9, 0, 120], [0, 0, 2.5, -300], [0, 0, 0, 1]]


def header(path, **wanted):
    return read_header(SourceFile(path, path.name, path.name), Wanted(**wanted))


def save(path, values, sidecar=None, **arrays):
    if path.suffix == ".npz":
        np.savez_compressed(path, **(arrays or {"voxels": values}))
    else:
        np.save(path, values)
    if sidecar is not None:
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


class TestTheVolume:
    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("kind", ["<i2", ">f4", "<u8", "|b1"])
    def test_is_the_array(self, kind, order, name, tmp_path, write):
        values = np.asarray(np.abs(write.ct()) % 7 > 3 if kind == "|b1" else np.abs(write.ct()))
        values = np.asarray(values, dtype=kind, order=order)
        found = header(save(tmp_path / name, values, {"affine": AFFINE}))
        found.voxels[0].check()
        volume = volume_of(found, "OT", "arbitrary")
        np.testing.assert_array_equal(volume.read(), values.astype(np.float32))
        region = (slice(3, 9), slice(2, 5), slice(4, 7))
        np.testing.assert_array_equal(volume.read(region), values[region].astype(np.float32))
        np.testing.assert_array_equal(volume.geometry.affine, AFFINE)

    def test_place_by_its_parts(self, tmp_path, write):
        axes = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0].T
        sidecar = {"spacing_mm": [0.7, 0.9, 2.5], "origin_mm": [1, 2, 3],
                   "directions": axes.tolist(), "unit": "HU", "modality": "CT"}  # fmt: skip
        found = header(save(tmp_path / "a.npy", write.ct(), sidecar))
        expected = [1, 2, 3] + 4 * 0.7 * axes[0] + 5 * 0.9 * axes[1] + 6 * 2.5 * axes[2]
        np.testing.assert_allclose(found.geometry.world((4, 5, 6)), expected)
        assert (found.modality, found.unit, found.oriented) == ("CT", "HU", True)

    def test_several_arrays_need_a_name(self, tmp_path, write):
        arrays = {"one": write.ct(), "two": write.ct(seed=1)}
        path = save(tmp_path / "a.npz", None, {"affine": AFFINE}, **arrays)
        with pytest.raises(ReaderError, match="it holds 2 arrays: name one by `array`"):
            header(path)
        save(path, None, {"affine": AFFINE, "array": "two"}, **arrays)
        read = volume_of(header(path), "OT", "arbitrary").read()
        np.testing.assert_array_equal(read, write.ct(seed=1))


class TestRefused:
    @pytest.mark.parametrize(("sidecar", "sentence"), [
        (None, "nothing says where its voxels lie"),
        ({}, "gives no spacing_mm"),
        ({"spacing_mm": [1, 1]}, "wrong at spacing_mm"),
        ({"spacing_mm": [1, 1, 0]}, "gives no spacing_mm of three positive"),
        ({"spacing_mm": [1, 1, 1], "affine": AFFINE}, "give one"),
        ({"affine": np.zeros((4, 4)).tolist()}, "no usable affine"),
        ({"spacing_mm": [1, 1, 1], "directions": np.ones((3, 3)).tolist()}, "of length 1"),
        ({"spacing_mm": [1, 1, 1], "PatientName": "Doe"}, "an unknown key"),
    ])  # fmt: skip
    def test_a_sidecar_that_does_not_say_it(self, sidecar, sentence, tmp_path, write):
        with pytest.raises(ReaderError, match=re.escape(sentence)) as caught:
            header(save(tmp_path / "a.npy", write.ct(), sidecar))
        assert "Doe" not in str(caught.value)

    def test_unless_the_settings_give_the_spacing(self, tmp_path, write):
        found = header(save(tmp_path / "a.npy", write.ct()), spacing_mm=(0.7, 0.9, 2.5))
        assert found.geometry.spacing == (0.7, 0.9, 2.5)
        assert not found.oriented

    def test_pickles_are_never_loaded(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (pytest.fail, ("unpickled",))

        path = tmp_path / "a.npy"
        np.save(path, np.array([[[Bomb()]]]), allow_pickle=True)
        (tmp_path / "a.json").write_text(json.dumps({"affine": AFFINE}))
        with pytest.raises(ReaderError, match="not plain numbers"):
            header(path)
        path.write_bytes(pickle.dumps([1, 2]))
        with pytest.raises(ReaderError, match="header cannot be read"):
            header(path)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_a_file_that_ends_early(self, name, tmp_path, write):
        path = save(tmp_path / name, write.ct(), {"affine": AFFINE})
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ReaderError, match=r"ends before its last voxel|cannot be read"):
            header(path).voxels[0].check()

    def test_wrong_numbers_of_axes(self, tmp_path):
        for shape in ((4, 4), (4, 4, 4, 2)):
            path = save(tmp_path / "a.npy", np.zeros(shape), {"affine": AFFINE})
            with pytest.raises(ReaderError, match="one volume is needed"):
                header(path)


def test_pairs_with_their_sidecars(tmp_path, write, site_key):
    (tmp_path / "p1").mkdir()
    save(tmp_path / "p1" / "ct.npz", write.ct(), {"affine": AFFINE, "modality": "CT", "unit": "HU"})
    save(tmp_path / "p1" / "mask.npy", write.blob(), {"affine": AFFINE})
    settings = VolumesSource(
        kind="volumes", image="(?P<patient>p1)/ct", labels="(?P<patient>p1)/mask", label="x"
    )
    source = scan([settings], tmp_path, site_key)
    assert source.inventory.files_used == source.inventory.files_seen == 4
    (case,) = source.cases()
    assert case.lesions[0].voxels == write.blob().sum()
    assert (case.volume.modality, case.volume.unit) == ("CT", "HU")
