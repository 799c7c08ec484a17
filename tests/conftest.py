"""Real test data, unpacked once a session, and small synthetic stand-ins shared by all tests."""

import fcntl
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medaug.domain import PatchLocation, PatchSet, PatientKey, Unit
from medaug.phantom import write_cohort

sys.path.insert(0, str(Path(__file__).parent))  # orthanc is within reach of every test

DATA = Path(os.environ.get("MEDAUG_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: left for the end, they keep one core busy and the rest idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``real_data("ircadb17_liver_ct")``: the folder with its zips unpacked, or a skip."""
    unpacked: dict[str, Path] = {}

    def folder(name: str) -> Path:
        source = DATA / name
        if not source.is_dir():
            pytest.skip(f"real data {name} is not at {DATA}; set MEDAUG_DATA to where it lies")
        if name not in unpacked:
            target = tmp_path_factory.mktemp(name)
            for entry in source.iterdir():
                if entry.suffix == ".zip":
                    with zipfile.ZipFile(entry) as archive:
                        archive.extractall(target)
                else:
                    (target / entry.name).symlink_to(entry)
            unpacked[name] = target
        return unpacked[name]

    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 patients with a marker in every text of their files; to be read, not to be changed.

    They take most of a minute: all processes of a test run share them.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / "phantoms.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_cohort(place / "phantoms", patients=84, seed=3, marker="Zyxomma7Petiolat")
    return place / "phantoms"


def patient(number: int) -> PatientKey:
    return PatientKey(f"{number:032x}")


def patch_set(
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    patients: np.ndarray,
    masks: np.ndarray | None = None,
    unit: Unit = Unit.HOUNSFIELD,
) -> PatchSet:
    """A PatchSet from plain arrays; ``patients`` are numbers."""
    return PatchSet(
        images=images.astype(np.float32),
        masks=masks,
        labels=labels.astype(np.int64),
        classes=classes,
        patients=tuple(patient(int(number)) for number in patients),
        locations=tuple(
            PatchLocation(f"case{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 1.0)
            for row in range(len(images))
        ),
        unit=unit,
        modality="CT",
    )


@pytest.fixture
def make_patch_set() -> Callable[..., PatchSet]:
    return patch_set
