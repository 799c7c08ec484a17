"""Patches as torch data sets, for training loops that are not medaug's.

`SyntheticPatches` is a release folder; `mixed_dataset` mixes real and released patches as an arm of
the evaluation does. Both give dictionaries, as MONAI's transforms take them:

``image``   float32 (channel, [slice,] row, column), in the unit of the patches
``label``   int, index into the data set's ``classes``
``mask``    uint8 (1, [slice,] row, column), 1 in the lesion; only where every patch has one
``source``  "real" or "synthetic"

``transform`` is applied to each dictionary, last. Both can be indexed in any order and read by
`torch.utils.data.DataLoader` with any number of workers: what stands at an index follows from
the seed, the epoch and the index alone. (Randomness of a ``transform`` is its own affair.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from medaug.domain import PatchSet, Release, Window, digest_of
from medaug.errors import CohortError, Fault, ReaderError, SettingsError
from medaug.evaluation.classical import Limits, augment, augment_masks
from medaug.evaluation.policies import ARMS, REAL, REFINED, SYNTHETIC, ArmName, Policy, Pool
from medaug.evaluation.released import labels_among
from medaug.export.manifest import read_manifest
from medaug.export.release import load_release
from medaug.export.verify import verify_release

Sample = dict[str, Any]
Transform = Callable[[Sample], Any]


class SyntheticPatches(Dataset[Any]):
    """The patches of a release folder, read when the first is asked for.

    A copy in another process reads the files itself, so that none are sent there.

    Args:
        folder: of the release, with ``release.json``.
        verify: check the folder first, as ``medaug verify`` does: every file is there, bit for bit
            and none besides, the papers fit, the decision covers the pixels. Otherwise only the
            last is checked, when the pixels are read.
        transform: applied to each dictionary.

    Raises:
        ReaderError: if the folder is none, is damaged or does not verify; every problem is named.
    """

    def __init__(
        self, folder: Path | str, *, verify: bool = True, transform: Transform | None = None
    ) -> None:
        self.folder = Path(folder)
        self.transform = transform
        if verify and (problems := verify_release(self.folder).problems):
            raise ReaderError(*(Fault(str(self.folder), each) for each in problems))
        manifest = read_manifest(self.folder)
        self.classes = tuple(entry.name for entry in manifest.classes)
        self.window = Window(*manifest.image.window)
        self.has_masks = manifest.masks
        self._length = sum(entry.samples for entry in manifest.classes)

    @cached_property
    def release(self) -> Release:
        """The release, loaded once in each process."""
        return load_release(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "release"}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        release = self.release
        at = range(len(self))[index]
        sample = _sample(
            release.rescale.restore(release.pixels[at]),
            int(release.labels[at]),
            None if release.masks is None else release.masks[at],
            "synthetic",
        )
        return sample if self.transform is None else self.transform(sample)


class MixedPatches(Dataset[Any]):
    """Draws from real and released patches; see `mixed_dataset`."""

    def __init__(
        self,
        real: PatchSet,
        release: Release,
        policy: Policy,
        seed: int,
        *,
        window: Window,
        length: int,
        transform: Transform | None,
    ) -> None:
        self.policy = policy
        self.real, self.release, self.seed = real, release, seed
        self.window, self.length = window, length
        self.transform = transform
        self.classes = real.classes
        self.has_masks = (real.masks is not None or not policy.uses(REAL)) and (
            release.masks is not None or not policy.uses(SYNTHETIC)
        )
        # In memory that workers share, so that `set_epoch` reaches those that persist.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        made = torch.from_numpy(labels_among(release, real.classes))
        labels = (torch.from_numpy(real.labels), made)
        limits = Limits.of_patches(real, window)
        self._pool = Pool(labels, len(real.classes), real.images.shape[1:], limits)

    def set_epoch(self, epoch: int) -> None:
        """Other draws from now on: those of this epoch. Also in workers that persist."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        at = range(len(self))[index]
        seed = int(digest_of("mixed", self.seed, int(self._epoch))[:15], 16)
        plan = self.policy.plan(self._pool, 1, at, seed)
        row, synthetic = int(plan.row), bool(plan.source == SYNTHETIC)
        if synthetic:
            image = self.release.rescale.restore(self.release.pixels[row])
            masks = self.release.masks
        else:
            image, masks = self.real.images[row], self.real.masks
        mask = masks[row] if self.has_masks and masks is not None else None
        if plan.operations is not None:
            signed = torch.from_numpy(self.window.to_signed(image))[None]
            image = self.window.from_signed(augment(signed, plan.operations)[0].numpy())
            if mask is not None:
                mask = augment_masks(torch.from_numpy(mask)[None], plan.operations)[0].numpy()
        source = "synthetic" if synthetic else "real"
        sample = _sample(image, int(plan.labels), mask, source)
        return sample if self.transform is None else self.transform(sample)


def mixed_dataset(
    real: PatchSet,
    release: Release | Path | str,
    policy: ArmName | Policy,
    seed: int,
    *,
    window: Window | None = None,
    share: float = 0.3,
    length: int | None = None,
    transform: Transform | None = None,
) -> MixedPatches:
    """A data set that draws real and released patches as an arm of the evaluation does.

    Every class is drawn equally often, patches of a class with equal chance. Of a class of which
    nothing was released, all are real.

    Args:
        real: patches to train on; keep those that judge out of it.
        release: a `Release`, or a release folder, which is then verified.
        policy: the name of an arm of `medaug.evaluation.policies.ARMS`, or a `Policy` of your own;
            without patches of simulate-and-refine, of which there are none here.
        seed: of every draw.
        window: of classical augmentation, which clips to it; that of the folder if not given.
        share: of synthetic patches where an arm draws both; a `Policy` has a dose of its own.
        length: draws that make an epoch; as many as real patches if not given.
        transform: applied to each dictionary.

    Raises:
        ReaderError: if the folder does not verify.
        CohortError: if patches and release do not fit each other or a class has no patch.
        SettingsError: for an unknown policy, a share outside 0 to 1, or a missing window.
    """
    if not isinstance(release, Release):
        folder = SyntheticPatches(release)
        release, window = folder.release, window or folder.window
    arms = {arm.name: arm for arm in ARMS if not arm.refined}
    faults = []
    if isinstance(policy, Policy):
        if policy.uses(REFINED):
            faults.append(Fault("policy", "patches of simulate-and-refine", "none: refined=0"))
    elif policy not in arms:
        faults.append(Fault("policy", repr(policy), ", ".join(arms)))
    if not 0 < share < 1:
        faults.append(Fault("share", f"{share}", "more than 0, less than 1"))
    if length is not None and length < 1:
        faults.append(Fault("length", f"{length}", "1 or more"))
    if window is None:
        faults.append(
            Fault("window", "not given, and a Release has none", "a Window, or a release folder")
        )
    if faults or window is None:
        raise SettingsError(*faults)
    own = policy if isinstance(policy, Policy) else arms[policy].policy(share / (1 - share))
    _refuse_misfits(real, release, own)
    return MixedPatches(
        real,
        release,
        own,
        seed,
        window=window,
        length=length or len(real),
        transform=transform,
    )


def _refuse_misfits(real: PatchSet, release: Release, policy: Policy) -> None:
    faults = []
    if policy.uses(SYNTHETIC):
        for what, came, wanted in (
            ("unit", release.unit, real.unit),
            ("patch shape", release.pixels.shape[1:], real.images.shape[1:]),
        ):
            if came != wanted:
                faults.append(
                    Fault("release", f"{what} {came}", f"as of the real patches {wanted}")
                )
        if strange := set(release.classes) - set(real.classes):
            faults.append(Fault("release", f"classes {sorted(strange)}", ", ".join(real.classes)))
    counts = release.per_class() if not policy.uses(REAL) else {}
    of_real = np.bincount(real.labels, minlength=len(real.classes))
    for label, count in zip(real.classes, of_real, strict=True):
        if not (count if policy.uses(REAL) else counts.get(label)):
            source = "real" if policy.uses(REAL) else "released"
            faults.append(Fault(f"class {label}", f"no {source} patch", "at least one"))
    if faults:
        raise CohortError(*faults)


def _sample(image: np.ndarray, label: int, mask: np.ndarray | None, source: str) -> Sample:
    """One patch as a dictionary; the tensors are its own."""
    sample: Sample = {"image": torch.from_numpy(np.array(image, np.float32)), "label": label}
    if mask is not None:
        sample["mask"] = torch.from_numpy(mask[None].astype(np.uint8))
    sample["source"] = source
    return sample
