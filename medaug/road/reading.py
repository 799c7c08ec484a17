"""A reader study from a run, or from a release and real patches of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from medaug.domain import HeldOut, PatchSet, PatientKey, Window
from medaug.errors import Fault, SettingsError

if TYPE_CHECKING:
    from medaug.reader_study.deck import Deck

_UNSEEN = "of the test part of the generator's own run: the generator did not see them"
_PATCHES = (
    "patches of the test part of the generator's own run; patients are not known, and others of "
    "their patches may have been trained on"
)
_UNKNOWN = "of another run: whether the generator saw them is not known here"


def make_study(
    source: Path, folder: Path, key: Path, seed: int, per_class: int, real: Path | None = None
) -> Deck:
    """Write a reader study.

    Args:
        source: a run folder with a release, or a release folder.
        folder: new or empty; what readers get.
        key: new file outside it; what they do not get.
        seed: of the deal: whoever knows it knows the answers.
        per_class: patches of each class.
        real: a run folder whose patches are the real ones; the run itself by default.

    Raises:
        SettingsError: folders that are none, or patches that do not fit; with all faults.
        LeakageError: the generator saw a patient who would be shown.
        RunFolderError: something is in the way.
    """
    from medaug.export.manifest import read_manifest
    from medaug.export.release import load_release
    from medaug.reader_study.deck import deal
    from medaug.reader_study.kit import write_kit

    release = source / "release" if (source / "run.json").is_file() else source
    own = release != source
    faults = []
    if not (release / "release.json").is_file():
        faults.append(
            Fault(str(source), "no release in it", "a run folder with a release, or a release")
        )
    if real is None and not own:
        faults.append(
            Fault(
                "--real",
                "not given, and a release holds no real patches",
                "a run folder with patches of real patients",
                "cut them with 'medaug extract' and the settings of the release's image",
            )
        )
    store = (real or source) / "patches" / "patches.h5"
    if not faults and not store.is_file():
        faults.append(Fault(str(real or source), "no patches in it", "a run folder with patches"))
    if faults:
        raise SettingsError(*faults)
    patches, held_out = _real(store)
    unseen = _UNKNOWN
    if own:
        _refuse_seen(source, patches)
        if real is None and held_out:
            unseen = _UNSEEN if patches.patients_known else _PATCHES
    window = Window(*read_manifest(release).image.window)
    deck = deal(load_release(release), patches, window, per_class, seed, unseen)
    write_kit(deck, folder, key)
    return deck


def _real(store: Path) -> tuple[PatchSet, bool]:
    """The patches of the test part; all of them, and False, where nobody has split."""
    from medaug.patching.store import read_patches

    split = store.parents[1] / "split.json"
    if not split.is_file():
        return read_patches(store), False
    parts = json.loads(split.read_text(encoding="utf-8"))["parts"]
    test = frozenset(map(PatientKey, parts["test"]["patients"]))
    return read_patches(store, test), True


def _refuse_seen(run: Path, patches: PatchSet) -> None:
    """Raise if the run's generator saw a patient of ``patches``."""
    from medaug.domain import TrainingRecord

    path = run / "generator" / "config.json"
    if not path.is_file():
        raise SettingsError(
            Fault(str(run), "no generator/config.json: whom it saw is not known", "a complete run")
        )
    record = json.loads(path.read_text(encoding="utf-8"))["record"]
    seen = TrainingRecord(
        patients=frozenset(map(PatientKey, record["patients"])),
        patches_digest=record["patches_digest"],
        weights_digest=record["weights_digest"],
        settings={},
        seed=record["seed"],
        images_shown=0,
        patients_known=record["patients_known"],
    )
    HeldOut(patches, lineage=(seen,))
