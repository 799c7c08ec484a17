"""Data sets for training loops that are not medaug's."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from medaug.datasets import MixedPatches, SyntheticPatches, mixed_dataset
from medaug.domain import PatchSet, Window
from medaug.errors import CohortError, ReaderError, SettingsError
from medaug.subjects import subjects_dataset


def everything(dataset: Any) -> list[dict[str, Any]]:
    return list(DataLoader(dataset, batch_size=7))


def same(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    return len(left) == len(right) and all(
        a.keys() == b.keys()
        and a["source"] == b["source"]
        and all(torch.equal(a[key], b[key]) for key in a if key != "source")
        for a, b in zip(left, right, strict=True)
    )


class TestSyntheticPatches:
    """A release folder as a data set: what was written is what is read."""

    def test_every_patch_as_it_was_released(self, library: SimpleNamespace) -> None:
        dataset, release = SyntheticPatches(library.release_dir), library.release
        assert len(dataset) == len(release)
        assert dataset.window == library.window
        for at, image in enumerate(release.images):
            sample = dataset[at]
            assert np.array_equal(sample["image"], image)
            assert np.array_equal(sample["mask"][0], release.masks[at])
            assert (sample["label"], sample["source"]) == (release.labels[at], "synthetic")
        with pytest.raises(IndexError):
            dataset[len(dataset)]

    def test_pixels_are_read_when_asked_for_and_not_sent_to_workers(
        self, library: SimpleNamespace
    ) -> None:
        dataset = SyntheticPatches(library.release_dir)
        assert "release" not in vars(dataset)
        assert dataset[3]["source"] == "synthetic"
        assert "release" in vars(dataset)
        assert "release" not in dataset.__getstate__()

    def test_what_does_not_verify_is_refused(
        self, library: SimpleNamespace, tmp_path: Path
    ) -> None:
        folder = copytree(library.release_dir, tmp_path / "release")
        (folder / "DATASHEET.md").write_text("Other words.")
        with pytest.raises(ReaderError, match=r"DATASHEET\.md was changed"):
            SyntheticPatches(folder)
        assert len(SyntheticPatches(folder, verify=False)) == 30
        with pytest.raises(ReaderError, match="no such folder"):
            SyntheticPatches(tmp_path / "nowhere")


def mixed(library: SimpleNamespace, **changes: Any) -> MixedPatches:
    given = {"release": library.release, "policy": "real+classical+gan", "seed": 3, "length": 21}
    given |= {"window": library.window} | changes
    return mixed_dataset(library.patches, **given)


class TestMixed:
    """An arm of the evaluation as a data set."""

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_same_samples_for_any_number_of_workers(
        self, library: SimpleNamespace, workers: int
    ) -> None:
        """Also after `set_epoch`, in workers that have been there before."""
        dataset = mixed(library)
        both = ConcatDataset([dataset, SyntheticPatches(library.release_dir)])
        # Not forked: this process has threads.
        loader = DataLoader(
            both,
            batch_size=7,
            num_workers=workers,
            multiprocessing_context="spawn",
            persistent_workers=True,
        )
        for epoch in (0, 2):
            dataset.set_epoch(epoch)
            assert same(list(loader), everything(both))

    def test_the_seed_decides(self, library: SimpleNamespace) -> None:
        alone = everything(mixed(library))
        assert same(everything(mixed(library)), alone)
        assert not same(everything(mixed(library, seed=4)), alone)

    def test_epochs_differ_and_come_again(self, library: SimpleNamespace) -> None:
        dataset = mixed(library)
        first = everything(dataset)
        dataset.set_epoch(1)
        assert not same(everything(dataset), first)
        dataset.set_epoch(0)
        assert same(everything(dataset), first)

    @pytest.mark.parametrize(("policy", "share"), [("real", 0.0), ("real+gan", 0.3), ("gan", 1.0)])
    def test_shares_of_classes_and_sources(
        self, library: SimpleNamespace, policy: str, share: float
    ) -> None:
        dataset = mixed(library, policy=policy, length=2000)
        samples = [dataset[at] for at in range(len(dataset))]
        made = [sample["source"] == "synthetic" for sample in samples]
        assert np.mean(made) == pytest.approx(share, abs=0.04)
        assert np.mean([sample["label"] for sample in samples]) == pytest.approx(0.5, abs=0.04)
        origin = {True: library.release.images, False: library.patches.images}
        known = {kind: {image.tobytes() for image in of} for kind, of in origin.items()}
        shown = {
            (of, sample["image"].numpy().tobytes())
            for of, sample in zip(made, samples, strict=True)
        }
        assert all(image in known[of] for of, image in shown)
        assert len(shown) == sum(len(known[of]) for of in set(made))

    def test_classical_augmentation_moves_picture_and_mask_alike(
        self, library: SimpleNamespace
    ) -> None:
        """The masked pixels stay the brighter ones (or the darker, in the other class)."""
        quiet = library.patches.images * 0 + np.where(library.patches.masks, 150, 0)[:, None]
        real = replace(library.patches, images=quiet.astype(np.float32))
        dataset = mixed_dataset(
            real, library.release, "real+classical", 0, window=Window(-100, 200), length=40
        )
        moved = 0
        for at in range(len(dataset)):
            sample = dataset[at]
            inside, image = sample["mask"].bool(), sample["image"]
            assert image[inside].mean() - image[~inside].mean() > 90
            moved += not any(np.array_equal(inside[0], mask) for mask in real.masks)
        assert moved > 35

    def test_masks_only_where_every_patch_has_one(self, library: SimpleNamespace) -> None:
        bare = replace(library.patches, masks=None)
        assert "mask" not in mixed_dataset(bare, library.release_dir, "real+gan", 0)[0]
        assert "mask" in mixed_dataset(bare, library.release_dir, "gan", 0)[0]

    def test_a_class_that_was_not_released_is_real(self, library: SimpleNamespace) -> None:
        real = replace(library.patches, classes=("abscess", "cyst", "metastasis"))
        labels = real.labels + 1
        labels[:4] = 0
        dataset = mixed_dataset(replace(real, labels=labels), library.release_dir, "real+gan", 0)
        drawn = [dataset[at] for at in range(len(dataset))]
        assert {sample["source"] for sample in drawn if sample["label"] == 0} == {"real"}
        with pytest.raises(CohortError, match="abscess"):
            mixed_dataset(replace(real, labels=labels), library.release_dir, "gan", 0)

    def test_misfits_are_named(self, library: SimpleNamespace) -> None:
        narrow: PatchSet = replace(
            library.patches,
            images=library.patches.images[..., :12],
            masks=library.patches.masks[..., :12],
        )
        with pytest.raises(CohortError, match="patch shape"):
            mixed_dataset(narrow, library.release_dir, "real+gan", 0)
        with pytest.raises(SettingsError) as caught:
            mixed_dataset(library.patches, library.release, "real+gun", 0, share=1.0)  # type: ignore[arg-type]
        assert [fault.where for fault in caught.value.faults] == ["policy", "share", "window"]


def test_subjects_of_torchio_lie_as_the_patches_do(library: SimpleNamespace) -> None:
    pytest.importorskip("torchio")
    subject = subjects_dataset(library.release_dir)[4]
    image, mask = subject["image"], subject["mask"]
    pixels = library.release.images[4, 0]
    assert np.array_equal(image.data[0, :, :, 0].T, pixels)
    assert np.array_equal(mask.data[0, :, :, 0].T, library.release.masks[4])
    # A column further is a millimetre to the patient's left, a row further one to the back.
    assert image.affine[:3, :2].T.tolist() == [[-1, 0, 0], [0, -1, 0]]
