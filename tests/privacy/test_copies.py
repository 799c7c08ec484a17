"""The detector finds altered copies and leaves new patients alone."""

import dataclasses

import numpy as np
import pytest
from planted import ALTERATIONS, altered, lesion, patients

from medaug.errors import CohortError
from medaug.privacy.copies import LOOK_ALIKE, CopyDetector, _calibrated

TRAINING = patients(range(44))
CALIBRATION = patients(range(1000, 1040))


@pytest.fixture(scope="module")
def detector() -> CopyDetector:
    return CopyDetector.fit(TRAINING, CALIBRATION)


class TestCopies:
    @pytest.mark.parametrize("how", ALTERATIONS)
    def test_altered_copies_exceed_the_limit(self, detector: CopyDetector, how: str) -> None:
        rows = np.arange(0, 44, 4)
        images = np.stack([altered(TRAINING.images[row], how, int(row)) for row in rows])
        found = detector.scores(images)
        assert (found.scores > detector.calibration.limit).all()
        assert (found.nearest == rows).all()

    def test_any_channel_counts(self) -> None:
        def two_channels(numbers: range) -> object:
            one, other = patients(numbers), patients([number + 500_000 for number in numbers])
            images = np.concatenate([one.images, other.images], axis=1)
            return dataclasses.replace(one, images=images)

        training, calibration = two_channels(range(30)), two_channels(range(1000, 1020))
        detector = CopyDetector.fit(training, calibration)
        images = np.stack([np.concatenate([lesion(5, "cyst"), training.images[8, 1:]])])
        found = detector.scores(images)
        assert found.scores[0] > detector.calibration.limit
        assert found.nearest[0] == 8


class TestNewPatients:
    """At most the promised share of new patients is rejected."""

    def test_fresh_patients(self, detector: CopyDetector) -> None:
        fresh = detector.scores(patients(range(5000, 5100)).images).scores
        rejected = int((fresh > detector.calibration.limit).sum())
        # Were the bound true with equality, more would come in one of 100 draws.
        assert rejected <= 100 * detector.calibration.bound + 6

    @pytest.mark.parametrize(("outliers", "lowered"), [(1, False), (10, True)])
    def test_limit_is_lowered_only_beyond_chance(self, outliers: int, lowered: bool) -> None:
        left_out = np.linspace(-2, 2, 60)
        fresh = np.where(np.arange(60) < outliers, 7.0, left_out)
        found = _calibrated(fresh, left_out, (), 0.05)
        assert (found.held_out_limit, found.leave_one_out_limit) == (7, 2)
        assert (found.limit, found.above) == ((2, 10) if lowered else (7, 0))

    @pytest.mark.slow
    def test_promise_over_many_cohorts(self) -> None:
        """Of 100 drawings of 22 calibration patients, the bound fails in no more than 5 %."""
        few = CopyDetector.fit(patients(range(30)), patients(range(1000, 1022)))
        everybody = few.scores(patients(range(5000, 5200)).images).scores
        failures, rng = 0, np.random.default_rng(0)
        for _ in range(100):
            drawn = rng.permutation(everybody)
            found = _calibrated(drawn[:22], drawn[22:52], (), 0.05)
            failures += np.mean(everybody > found.limit) > found.bound
        assert failures <= 11  # 12 would come in 1 % of trials

    def test_a_patient_is_worth_one_score(self) -> None:
        many = patients(range(1000, 1022), per_patient=3)
        found = CopyDetector.fit(patients(range(24), per_patient=2), many).calibration
        assert (found.patients, found.training_patients) == (22, 24)
        assert found.leave_one_out_limit < 50, "a patient's own slices are not its neighbours"


class TestLimit:
    def test_never_depends_on_what_is_judged(self, detector: CopyDetector) -> None:
        before = detector.calibration
        detector.scores(TRAINING.images[:5])
        again = CopyDetector.fit(TRAINING, CALIBRATION)
        assert detector.calibration == before == again.calibration

    def test_a_person_in_both_parts_does_not_lift_it(self, detector: CopyDetector) -> None:
        """Two names of one person put a copy into the calibration part."""
        twin = CALIBRATION.images.copy()
        twin[3] = altered(TRAINING.images[9], "mirrored", 0)
        misled = CopyDetector.fit(TRAINING, dataclasses.replace(CALIBRATION, images=twin))
        assert [one.row for one in misled.calibration.look_alikes] == [3]
        assert misled.calibration.limit < LOOK_ALIKE
        assert misled.calibration.limit <= detector.calibration.limit
        assert misled.calibration.above >= 1


class TestScores:
    def test_batches_do_not_matter(self, detector: CopyDetector) -> None:
        images = patients(range(7000, 7006)).images
        together = detector.scores(images).scores
        alone = [detector.scores(image[None]).scores[0] for image in images]
        assert together.tolist() == alone

    def test_nothing_to_score(self, detector: CopyDetector) -> None:
        assert len(detector.scores(np.zeros((0, 1, 64, 64), np.float32)).scores) == 0

    def test_nan_is_never_no_copy(self, detector: CopyDetector) -> None:
        image = TRAINING.images[:1].copy()
        image[0, 0, 5, 5] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            detector.scores(image)


class TestRefusals:
    def test_too_few_patients_says_so_for_both_parts(self) -> None:
        with pytest.raises(CohortError) as caught:
            CopyDetector.fit(patients(range(18)), patients(range(100, 110)))
        assert [fault.came for fault in caught.value.faults] == ["18 patients", "10 patients"]

    def test_nan_in_real_patches(self) -> None:
        images = TRAINING.images.copy()
        images[2, 0, 1, 1] = np.inf
        with pytest.raises(CohortError, match="NaN or infinity"):
            CopyDetector.fit(dataclasses.replace(TRAINING, images=images), CALIBRATION)

    def test_parts_of_different_shape(self) -> None:
        small = dataclasses.replace(CALIBRATION, images=CALIBRATION.images[:, :, :50, :50])
        with pytest.raises(CohortError, match=r"\(1, 50, 50\)"):
            CopyDetector.fit(TRAINING, small)

    def test_training_patients_all_alike(self) -> None:
        images = np.repeat(TRAINING.images[:1], len(TRAINING), axis=0)
        with pytest.raises(CohortError, match="equally like"):
            CopyDetector.fit(dataclasses.replace(TRAINING, images=images), CALIBRATION)
