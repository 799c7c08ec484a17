"""Tasks of the Medical Segmentation Decathlon and of nnU-Net."""

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from medaug.errors import ReaderError
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)
LABELS = {"0": "background", "1": "liver", "2": "cancer"}


def read(root, site_key, **given):
    return scan([SOURCE.validate_python({"kind": "msd", **given})], root, site_key)


def decathlon(root, write, shape=(20, 16, 8), **document):
    pairs = []
    for seed, name in enumerate(("liver_0", "liver_1")):
        mask = write.blob().astype(np.uint8)
        mask[mask > 0] = 2
        mask[0:2, 0:2, 0] = 1
        write.nifti(root / "imagesTr" / f"{name}.nii.gz", write.ct(shape, seed))
        write.nifti(root / "labelsTr" / f"{name}.nii.gz", mask)
        write.nifti(root / "imagesTs" / f"{name}9.nii.gz", write.ct())
        pairs.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    write_json(root, {"modality": {"0": "CT"}, "labels": LABELS, "training": pairs,
                      "test": ["./imagesTs/liver_09.nii.gz"], **document})  # fmt: skip


def write_json(root, document):
    (root / "dataset.json").write_text(json.dumps(document))


class TestTheDecathlon:
    def test_pairs_classes_and_patients(self, tmp_path, write, site_key):
        decathlon(tmp_path, write)
        source = read(tmp_path, site_key, labels={"cancer": "tumour"})
        assert source.inventory.classes == {"tumour": {"lesions": 4, "patients": 2}}
        assert {case.modality for case in source.inventory.cases} == {"CT"}
        assert source.inventory.files_used == 5
        (entry,) = source.inventory.refused
        assert (entry.path, entry.files) == ("imagesTs", 2)
        for seed, case in enumerate(source.cases()):
            np.testing.assert_array_equal(case.volume.read(), write.ct(seed=seed))

    def test_without_labels_all_but_the_background_are_classes(self, tmp_path, write, site_key):
        decathlon(tmp_path, write)
        assert list(read(tmp_path, site_key).inventory.classes) == ["cancer", "liver"]

    def test_of_several_channels_needs_a_choice(self, tmp_path, write, site_key):
        channels = {"0": "FLAIR", "1": "T1w"}
        decathlon(tmp_path, write, (20, 16, 8, 2), modality=channels)
        with pytest.raises(ReaderError, match="choose one by the setting `channel`"):
            read(tmp_path, site_key)
        with pytest.raises(ReaderError, match=r"2, and dataset\.json names 2 channels"):
            read(tmp_path, site_key, channel=2)
        source = read(tmp_path, site_key, channel=1)
        (first, _) = source.cases()
        assert first.volume.modality == "MR"
        np.testing.assert_array_equal(first.volume.read(), write.ct((20, 16, 8, 2))[..., 1])

    def test_every_file_that_is_missing_is_named(self, tmp_path, write, site_key):
        decathlon(tmp_path, write)
        (tmp_path / "imagesTr" / "liver_0.nii.gz").unlink()
        (tmp_path / "labelsTr" / "liver_1.nii.gz").unlink()
        with pytest.raises(ReaderError) as caught:
            read(tmp_path, site_key, labels={"tumor": "x"})
        assert [fault.came for fault in caught.value.faults] == [
            "lists imagesTr/liver_0.nii.gz, which is not there",
            "lists labelsTr/liver_1.nii.gz, which is not there",
            "dataset.json has no label tumor",
        ]

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", "{" * 3000, '{"labels": 3}', "\0",
         '{"labels": {"0": "b"}, "training": [{"image": 3}]}'],
    )  # fmt: skip
    def test_a_document_that_is_none(self, text, tmp_path, write, site_key):
        decathlon(tmp_path, write)
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(ReaderError, match="it cannot be understood"):
            read(tmp_path, site_key)

    def test_a_folder_without_one(self, tmp_path, write, site_key):
        decathlon(tmp_path / "Task03", write)
        with pytest.raises(ReaderError, match=r"no dataset\.json in it"):
            read(tmp_path, site_key)


class TestNnUNet:
    @pytest.mark.parametrize("listed", [False, True])
    def test_pairs_by_name_or_by_list(self, listed, tmp_path, write, site_key):
        document = {"channel_names": {"0": "T2", "1": "ADC"}, "file_ending": ".nii.gz",
                    "labels": {"background": 0, "lesion": 2, "whole": [1, 2]},
                    "numTraining": 2}  # fmt: skip
        dataset = {}
        for at, name in enumerate(("a_1", "a_2")):
            mask = write.blob().astype(np.uint8) * 2
            write.nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", mask)
            for channel in range(2):
                values = write.ct(seed=10 * at + channel)
                write.nifti(tmp_path / "imagesTr" / f"{name}_{channel:04d}.nii.gz", values)
            images = [f"imagesTr/{name}_{channel:04d}.nii.gz" for channel in range(2)]
            dataset[name] = {"images": images, "label": f"labelsTr/{name}.nii.gz"}
        write_json(tmp_path, {**document, **({"dataset": dataset} if listed else {})})
        source = read(tmp_path, site_key, channel=1)
        assert source.inventory.classes == {"lesion": {"lesions": 4, "patients": 2}}
        for at, case in enumerate(source.cases()):
            np.testing.assert_array_equal(case.volume.read(), write.ct(seed=10 * at + 1))
