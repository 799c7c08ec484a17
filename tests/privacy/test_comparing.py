"""Who compares makes no difference: here, elsewhere, or elsewhere and then here."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted import patients

from medaug.privacy.comparing import elsewhere
from medaug.privacy.copies import CopyDetector
from medaug.workers import workers

TRAINING = patients(range(20))
CALIBRATION = patients(range(1000, 1019))
FRESH = patients(range(2000, 2006)).images


def carried(
    work: Callable[[Any], Any], items: Sequence[Any], lost: Callable[[Any, str], Any]
) -> Iterator[Any]:
    """As on another machine: everything is packed and unpacked; each third worker dies."""
    for number, item in enumerate(items):
        there, batch = pickle.loads(pickle.dumps((work, item)))
        yield lost(item, "it died") if number % 3 == 2 else pickle.loads(pickle.dumps(there(batch)))


@pytest.fixture(scope="module")
def here() -> CopyDetector:
    return CopyDetector.fit(TRAINING, CALIBRATION)


def same(here: CopyDetector, there: CopyDetector) -> bool:
    one, other = here.scores(FRESH), there.scores(FRESH)
    return (
        here.calibration == there.calibration
        and here.spreads.tobytes() == there.spreads.tobytes()
        and one.scores.tobytes() == other.scores.tobytes()
        and one.nearest.tolist() == other.nearest.tolist()
        and one.poses == other.poses
    )


class TestTheLimitAndEveryScoreAreTheSameBytes:
    def test_elsewhere(self, here: CopyDetector, tmp_path: Path) -> None:
        with elsewhere(carried, tmp_path) as helpers:
            assert helpers.folder.stat().st_mode & 0o077 == 0  # galleries are patients' data
            assert same(here, CopyDetector.fit(TRAINING, CALIBRATION, workers=helpers))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_a_worker_killed_in_the_middle(self, here: CopyDetector, tmp_path: Path) -> None:
        pytest.importorskip("distributed", reason="medaug[dask] is not installed")
        psutil = pytest.importorskip("psutil")
        killed: list[Any] = []

        class Kill:
            def start(self, *_: object) -> None:
                self.left = 12

            def advance(self, *_: object) -> None:
                self.left -= 1
                if not self.left:
                    children = psutil.Process().children(recursive=True)
                    killed.append(
                        next(one for one in children if "spawn_main" in " ".join(one.cmdline()))
                    )
                    killed[0].kill()

        with workers("local:2", tmp_path) as spread, elsewhere(spread, tmp_path) as helpers:
            there = CopyDetector.fit(TRAINING, CALIBRATION, progress=Kill(), workers=helpers)
            assert same(here, there)
        assert len(killed) == 1
