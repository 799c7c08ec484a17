"""Each rule of the gate turns away what it is there for, and says so by its name."""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import planted
import pytest
from planted import CLASSES, SIDE, WINDOW, patients

from medaug.domain import CheckResult, Rescale, Unit
from medaug.errors import CohortError
from medaug.privacy.copies import CopyDetector
from medaug.privacy.gate import review
from medaug.privacy.neighbours import Neighbours, Place
from medaug.privacy.outlines import Outlines
from medaug.privacy.screening import Accepted, Against, Screening, cap_of
from medaug.privacy.settings import PrivacySettings
from medaug.privacy.sizes import Sizes
from medaug.privacy.verdict import Review

TRAINING = patients(range(44))
CALIBRATION = patients(range(1000, 1022))
RESCALE = Rescale.of(Unit.HOUNSFIELD, WINDOW)
NEIGHBOURS = Neighbours.fit(TRAINING, CALIBRATION, 0.025)


def policy(**changes: Any) -> Any:
    return PrivacySettings(**{"per_class": 8, **changes}).policy()


def reviewed(sampler: Any, held_to: Any, **changes: Any) -> Review:
    inputs = {"training": TRAINING, "calibration": CALIBRATION, **changes}
    return review(
        sampler, held_to, **inputs, rescale=RESCALE, window=WINDOW, mm_per_pixel=1.0, seed=0
    )


class TestNear:
    """Nearer to a patient than real patients are."""

    def test_a_blurred_memory_is_near(self) -> None:
        plant = planted.low_pass_memoriser(TRAINING)
        found = [NEIGHBOURS.place(plant.one(seed, "cyst")) for seed in range(40)]
        assert np.mean([place.nearest < NEIGHBOURS.near_limit for place in found]) >= 0.9

    def test_new_patients_are_not(self) -> None:
        fresh = [NEIGHBOURS.place(image) for image in patients(range(5000, 5300)).images]
        near = np.mean([place.nearest < NEIGHBOURS.near_limit for place in fresh])
        single = np.mean([place.ratio < NEIGHBOURS.single_limit for place in fresh])
        # Two of 66 real patients lie below a limit; three standard errors of that on top.
        assert max(near, single) <= 0.09

    def test_the_share_says_how_many(self) -> None:
        """Of new patients about as many are near as the share says of real ones."""
        quarter = Neighbours.fit(TRAINING, CALIBRATION, 0.25)
        fresh = [quarter.place(image) for image in patients(range(5000, 5100)).images]
        assert 0.1 < np.mean([place.nearest < quarter.near_limit for place in fresh]) < 0.45
        assert 0.1 < np.mean([place.ratio < quarter.single_limit for place in fresh]) < 0.45

    def test_a_patient_is_not_its_own_neighbour(self) -> None:
        slices = patients(range(30), per_patient=3)
        found = Neighbours.fit(slices, CALIBRATION, 0.025)
        assert found.near_limit > 0.1
        assert found.place(slices.images[0], without=0).patient != 0


class TestSingleSupport:
    def test_near_one_patient_and_no_other(self) -> None:
        """One patient mixed into everything, by four parts in five."""
        plant = planted.leaker(TRAINING, 5, 0.8)
        found = [NEIGHBOURS.place(plant.one(seed, "cyst")) for seed in range(40)]
        assert np.mean([place.patient == 5 for place in found]) > 0.8
        assert np.mean([place.ratio < NEIGHBOURS.single_limit for place in found]) > 0.5


def screening(**changes: Any) -> Screening:
    detector = Scored()
    against = Against(
        form=None,  # type: ignore[arg-type]
        detector=detector,  # type: ignore[arg-type]
        outlines=None,
        neighbours=dataclasses.replace(NEIGHBOURS, near_limit=0.3, single_limit=0.5),
        sizes=None,
        allowed=dict.fromkeys(CLASSES, 100),
        cap=2,
    )
    return Screening(policy(), RESCALE, dataclasses.replace(against, **changes))


class Scored:
    """A copy check whose limit is 1."""

    calibration = dataclasses.make_dataclass("Limit", ["limit"])(1.0)


class TestOrder:
    """The first rule that fails names the rejection."""

    IMAGE = planted.lesion(3, "cyst")

    @pytest.mark.parametrize(
        ("outcome", "score", "overlap", "place"),
        [
            ("copy", 1.1, 0.99, Place(0.1, 0.1, 0)),
            ("outline", 0.9, 0.99, Place(0.1, 0.1, 0)),
            ("near", 0.9, 0.9, Place(0.1, 0.1, 0)),
            ("single_support", 0.9, 0.9, Place(0.4, 0.1, 0)),
            ("accepted", 0.9, 0.9, Place(0.4, 0.6, 0)),
        ],
    )
    def test_first(self, outcome: str, score: float, overlap: float, place: Place) -> None:
        outlines = Outlines(np.zeros((1, SIDE * SIDE), np.float32), 0.95, 22, 0.13)
        held = screening(outlines=outlines)
        assert held._outcome(self.IMAGE, score, overlap, place) == outcome

    def test_duplicate_of_an_earlier_release(self) -> None:
        held = screening(earlier=[self.IMAGE[None, :, ::-1]])
        assert held._outcome(self.IMAGE, 0.9, 0, Place(0.4, 0.6, 0)) == "duplicate"

    def test_cap(self) -> None:
        held = screening()
        held._supported.update([7, 7])
        assert held._outcome(self.IMAGE, 0.9, 0, Place(0.4, 0.6, 7)) == "cap"
        assert held._outcome(self.IMAGE, 0.9, 0, Place(0.4, 0.6, 8)) == "accepted"


class TestCap:
    def test_grows_with_the_release_and_with_what_real_patients_do(self) -> None:
        alone = dataclasses.replace(NEIGHBOURS, crowd=0.0)
        assert cap_of(policy(), alone, 10) == 2
        assert cap_of(policy(), alone, 1000) == int(np.ceil(1000 * 3 / 44))
        assert cap_of(policy(), dataclasses.replace(NEIGHBOURS, crowd=0.2), 1000) == 200

    def test_holds_for_what_is_left(self) -> None:
        held = screening(neighbours=dataclasses.replace(NEIGHBOURS, crowd=0.0))
        held.drawn, held.accepted = {"cyst": 30}, {"cyst": 12}
        pixels = np.zeros((1, 2, 2), np.int16)
        held.passed = [
            Accepted(pixels, None, 0, seed, 0.0, Place(1, 1, max(0, seed - 4)), 0.0)
            for seed in range(12)
        ]
        held.keep_to_cap(CLASSES)
        assert Counter(one.place.patient for one in held.passed)[0] == 2
        assert [one.seed for one in held.passed][:2] == [0, 1]
        assert (held.accepted["cyst"], held.rejections["cap"]) == (9, 3)


class TestQuota:
    def test_ten_for_each_patient_over_all_releases(self) -> None:
        before = {"cyst": 215}
        verdict = reviewed(planted.honest(TRAINING), policy(), released_before=before)
        assert verdict.release_or_raise().per_class() == {"cyst": 5, "metastasis": 8}
        assert verdict.rejections["quota"] == 3

    def test_spent(self) -> None:
        sampler = planted.honest(TRAINING)
        verdict = reviewed(sampler, policy(), released_before={"cyst": 220, "metastasis": 1})
        assert verdict.outcome == "refused"
        assert "Class cyst: 220 samples" in verdict.reasons[0]
        assert sampler.asked == []


class TestLookAlikes:
    """One person under two names: stop and ask."""

    TWIN = CALIBRATION.images.copy()
    TWIN[3] = planted.altered(TRAINING.images[9], "mirrored", 0)
    MISLED = dataclasses.replace(CALIBRATION, images=TWIN)

    def test_asked(self) -> None:
        sampler = planted.honest(TRAINING)
        verdict = reviewed(sampler, policy(), calibration=self.MISLED)
        assert "1 real patients look like another" in verdict.reasons[0]
        assert sampler.asked == []
        assert verdict.document()["calibration"]["look_alikes"] == (
            {"part": "calibration", "row": 3, "like": 9},
        )

    def test_answered(self) -> None:
        held_to = policy(look_alikes="different people")
        verdict = reviewed(planted.honest(TRAINING), held_to, calibration=self.MISLED)
        assert verdict.outcome == "released"
        assert verdict.calibration is not None
        assert verdict.calibration.limit < 8
        assert verdict.calibration.above >= 1


@dataclasses.dataclass
class Audited:
    """An audit that was decided beforehand."""

    reasons: tuple[str, ...]
    statements: tuple[str, ...] = ("The audit says so.",)

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def check(self) -> CheckResult:
        return CheckResult("audit", self.passed, 0.5, 0.01, 0, "It was audited.")

    def document(self) -> dict[str, Any]:
        return {"p": 0.5}


class TestAudit:
    """It refuses the whole release, and nothing is thinned until it passes."""

    @pytest.mark.parametrize("reasons", [(), ("It tells who was trained on.",)])
    def test_decides(self, reasons: tuple[str, ...]) -> None:
        seen = []
        verdict = reviewed(
            planted.honest(TRAINING),
            policy(),
            audit=lambda candidates: seen.append(len(candidates)) or Audited(reasons),
        )
        assert seen == [16]
        assert verdict.reasons == reasons
        assert verdict.document()["audit"] == {"p": 0.5}
        if not reasons:
            decision = verdict.release_or_raise().decision
            assert decision.results[-1].name == decision.policy.checks[-1] == "audit"
            assert "The audit says so." in decision.statements
            assert not any("No membership-inference" in said for said in decision.statements)


def star(seed: int) -> np.ndarray:
    """A mask (64, 64) of a lesion with an outline of its own."""
    rng = np.random.default_rng(seed)
    at = np.arange(SIDE) - (SIDE - 1) / 2
    angle, radius = np.arctan2(at[:, None], at), np.hypot(at[:, None], at)
    waves = sum(rng.normal(0, 0.15) * np.cos(n * angle + rng.uniform(0, 6)) for n in (2, 3, 4, 5))
    return radius < rng.uniform(8, 22) * (1 + waves)


class TestOutlines:
    """A copied mask under a new image is a leak."""

    WITH = dataclasses.replace(TRAINING, masks=np.stack([star(at) for at in range(44)]))
    HELD = dataclasses.replace(CALIBRATION, masks=np.stack([star(at) for at in range(900, 922)]))

    def test_copied_outlines(self) -> None:
        found = Outlines.fit(self.WITH, self.HELD, 0.05)
        assert found is not None
        assert found.bound == pytest.approx(0.127, abs=0.001)
        assert self.WITH.masks is not None
        copies = [found.overlap(np.rot90(np.roll(mask, 3, 0))) for mask in self.WITH.masks]
        assert min(copies) > found.limit
        new = [found.overlap(star(seed)) for seed in range(5000, 5100)]
        assert np.mean(np.array(new) > found.limit) <= 0.127

    def test_no_masks_no_check(self) -> None:
        assert Outlines.fit(self.WITH, CALIBRATION, 0.05) is None

    def test_turned_away_and_told_by_size(self) -> None:
        sampler = dataclasses.replace(
            planted.honest(self.WITH), mask=lambda seed: star(seed if seed % 2 else seed % 44)
        )
        verdict = reviewed(sampler, policy(), training=self.WITH, calibration=self.HELD)
        assert verdict.rejections["outline"] >= 4
        decision = verdict.release_or_raise().decision
        assert [check.name for check in decision.results][2] == "outline"
        assert any("masks were compared" in said for said in decision.statements)
        counts = np.array([list(sizes.values()) for sizes in verdict.sizes.values()])
        assert counts.sum(axis=(0, 1)).tolist() == [
            sum(verdict.accepted.values()),
            sum(verdict.drawn.values()),
        ]

    def test_sizes(self) -> None:
        sizes = Sizes.of(self.WITH)
        assert sizes is not None
        assert self.WITH.masks is not None
        names = Counter(sizes.name(mask) for mask in self.WITH.masks)
        assert min(names.values()) >= 14


class TestBadInput:
    def test_constant_patches(self) -> None:
        images = TRAINING.images.copy()
        images[[2, 4]] = 40
        with pytest.raises(CohortError, match="2 patches without any contrast"):
            CopyDetector.fit(dataclasses.replace(TRAINING, images=images), CALIBRATION)

    def test_memory_that_cannot_hold_the_patches(self) -> None:
        with pytest.raises(CohortError, match=r"set privacy.memory_mb: \d+"):
            CopyDetector.fit(TRAINING, CALIBRATION, memory_mb=20)


class TestCubes:
    """3-D patches are compared by their three middle slices."""

    @staticmethod
    def cubes(numbers: range) -> Any:
        flat = patients(numbers)
        stacks = []
        for number in numbers:
            images = [planted.lesion(number * 100 + at, "cyst")[0, ::2, ::2] for at in range(3)]
            cube = np.zeros((32, 32, 32), np.float32)
            cube[16], cube[:, 16], cube[:, :, 16] = images
            stacks.append(cube[None])
        return dataclasses.replace(flat, images=np.stack(stacks))

    def test_a_copy_is_found(self) -> None:
        training = self.cubes(range(20))
        detector = CopyDetector.fit(training, self.cubes(range(1000, 1019)))
        found = detector.scores(training.images[4:5, :, :, ::-1])
        assert found.scores[0] > 2 * detector.calibration.limit
        assert found.nearest[0] == 4
