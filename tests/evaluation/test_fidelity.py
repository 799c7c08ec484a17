"""Alike sets of patches pass for alike, planted failures show where they should."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medaug.domain import PatchSet, Release, Unit, Window
from medaug.errors import CohortError, SettingsError
from medaug.evaluation.fidelity import Fidelity, Group, distance_to, fidelity
from medaug.evaluation.halves import deal, deal_halves, one_per_patient, rooms, sizes_of
from medaug.evaluation.settings import EvaluationSettings, FidelitySettings

WINDOW = Window(0.0, 255.0)
CLASSES = ("benign", "malignant")
SETTINGS = EvaluationSettings(fidelity=FidelitySettings(deals=20))
MakeSet = Callable[..., PatchSet]
MakeRelease = Callable[..., Release]


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier has tests of its own."""
    monkeypatch.setattr("medaug.evaluation.twosample.TREES", 20)
    monkeypatch.setattr("medaug.evaluation.twosample.DIVISIONS", 5)


def pictures(labels: np.ndarray, seed: int, side: int = 16) -> np.ndarray:
    """Soft blobs, larger and brighter in class 1, in noise that has a grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    place = rng.uniform(-2, 2, size=(2, len(labels), 1, 1))
    radius = np.hypot(rows - place[0], columns - place[1])
    size = rng.uniform(2.5, 3.5, size=(len(labels), 1, 1)) + labels[:, None, None]
    grain = ndimage.gaussian_filter(rng.normal(0, 40, size=radius.shape), (0, 0.7, 0.7))
    images = 90 + 50 * (1 + labels[:, None, None]) * np.exp(-((radius / size) ** 2)) + grain
    return np.clip(images, 0, 255).astype(np.float32)[:, None]


class Parts:
    """Real patches of some patients and a release, alike or not."""

    def __init__(self, make_set: MakeSet, make_release: MakeRelease, patients: int = 40) -> None:
        self.labels = np.tile([0, 1], patients)
        owners = np.repeat(np.arange(patients), 2)
        self.real = make_set(
            pictures(self.labels, 0), self.labels, CLASSES, owners, unit=Unit.HOUNSFIELD
        )
        self.make = make_release

    def release(self, images: np.ndarray, labels: np.ndarray | None = None) -> Release:
        return self.make(images, self.labels if labels is None else labels, CLASSES)


@pytest.fixture
def parts(make_patch_set: MakeSet, make_release: MakeRelease) -> Parts:
    return Parts(make_patch_set, make_release)


def run(real: PatchSet, release: Release, **options: Any) -> Fidelity:
    return fidelity(real, release, SETTINGS, WINDOW, **{"seed": 0} | options)


class TestHalves:
    """No patient in both, classes balanced, all samples of one size and mix."""

    def test_split_by_patient_and_balanced(self, make_patch_set: MakeSet) -> None:
        rng = np.random.default_rng(0)
        owners = np.sort(rng.integers(0, 60, size=200))
        labels = rng.integers(0, 2, size=200) * (owners % 3 > 0)
        real = make_patch_set(np.zeros((200, 1, 8, 8)), labels, CLASSES, owners)
        halves = deal_halves(real, 30, rng)
        assert len({half.tobytes() for half in halves}) == 30
        for half in halves:
            assert not set(owners[half]) & set(owners[~half])
            for label in (0, 1):
                share = half[labels == label].mean()
                assert share == pytest.approx(0.5, abs=0.1)

    def test_rows_of_a_deal(self, make_patch_set: MakeSet) -> None:
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1], [60, 20])
        real = make_patch_set(np.zeros((80, 1, 8, 8)), labels, CLASSES, np.arange(80))
        made = np.repeat([0, 1], [12, 40])
        halves = deal_halves(real, 20, rng)
        in_half, there = rooms(halves, labels, made, 2)
        assert in_half == [30, 10]
        sizes = sizes_of([0, 1], in_half, there, most=1000)
        assert sizes == {0: 12, 1: 4}
        rows = deal(halves[0], labels, made, sizes, rng)
        assert np.bincount(labels[rows.first]).tolist() == [12, 4]
        assert np.bincount(labels[rows.second]).tolist() == [12, 4]
        assert np.bincount(made[rows.synthetic]).tolist() == [12, 4]
        assert halves[0][rows.first].all()
        assert not halves[0][rows.second].any()
        assert len(set(rows.synthetic)) == 16

    def test_most(self) -> None:
        assert sizes_of([0, 1], in_half=[400, 100], made=[900, 900], most=50) == {0: 40, 1: 10}

    def test_one_per_patient(self, make_patch_set: MakeSet) -> None:
        owners = np.array([3, 3, 5, 5, 5, 9])
        real = make_patch_set(np.zeros((6, 1, 8, 8)), np.zeros(6), CLASSES, owners)
        among = np.array([True, True, False, True, True, False])
        drawn = [
            one_per_patient(real, among, np.random.default_rng(seed)).tolist() for seed in range(40)
        ]
        assert {tuple(owners[rows]) for rows in drawn} == {(3, 5)}
        assert {row for rows in drawn for row in rows} == {0, 1, 3, 4}


class TestAlike:
    """New patches of the same source are no further than other real patches."""

    def test_no_alarm(self, parts: Parts) -> None:
        labels = np.tile([0, 1], 60)
        found = run(parts.real, parts.release(pictures(labels, 1), labels))
        assert [group.label for group in found.groups] == [None, *CLASSES]
        for group in found.groups:
            assert group.p_holm is not None
            assert group.p_holm > 0.05
            for figure in group.figures:
                assert figure.difference.low <= 0 <= figure.difference.high, figure.name
            if group.similarity:
                assert group.similarity.difference.low < 0 < group.similarity.difference.high

    def test_same_arguments_same_figures(self, parts: Parts) -> None:
        release = parts.release(pictures(parts.labels, 1))
        first, again = (run(parts.real, release).document() for _ in range(2))
        assert first == again
        assert run(parts.real, release, seed=1).document() != first

    def test_document_is_json(self, parts: Parts) -> None:
        document = run(parts.real, parts.release(pictures(parts.labels, 1))).document()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert document["features"] == "radiomic"
        assert "69 features" in document["groups"][0]["missing"][0]

    def test_scale_is_that_of_the_real_patches(self, parts: Parts) -> None:
        """One wild synthetic patch must not change what others are measured with."""
        images = pictures(parts.labels, 1)
        wild = images.copy()
        wild[:2] = np.random.default_rng(0).integers(0, 2, size=wild[:2].shape) * 255
        plain, after = (run(parts.real, parts.release(each)).groups[0] for each in (images, wild))
        for name in ("kernel distance", "coverage"):
            assert after.figure(name).baseline == plain.figure(name).baseline


class TestPlantedFailures:
    """Each kind of failure moves the figures that are there for it."""

    def group(self, parts: Parts, change: Callable[[np.ndarray], np.ndarray]) -> Group:
        return run(parts.real, parts.release(change(pictures(parts.labels, 1)))).groups[1]

    def test_blur_and_noise(self, parts: Parts) -> None:
        rng = np.random.default_rng(0)
        alike = self.group(parts, lambda images: images)
        slight = self.group(parts, lambda images: ndimage.gaussian_filter(images, (0, 0, 0.5, 0.5)))
        strong = self.group(parts, lambda images: ndimage.gaussian_filter(images, (0, 0, 1, 1)))
        noisy = self.group(parts, lambda images: images + rng.normal(0, 30, images.shape))
        distances = [each.figure("kernel distance") for each in (alike, slight, strong)]
        assert distances[0].synthetic.value < distances[1].synthetic.value
        assert distances[1].synthetic.value < distances[2].synthetic.value
        for bad in (strong, noisy):
            assert bad.figure("kernel distance").difference.low > 0
            assert bad.figure("coverage").difference.high < 0
            assert bad.p_holm is not None
            assert bad.p_holm < 0.01

    def test_collapse(self, parts: Parts) -> None:
        found = self.group(parts, lambda images: np.tile(images[:4], (20, 1, 1, 1)))
        for name in ("recall", "coverage"):
            assert found.figure(name).difference.high < 0
        assert found.similarity is not None
        assert found.similarity.difference.low > 0

    def test_copies_raise_no_alarm(self, parts: Parts) -> None:
        """That is what the gate is for; the text says so."""
        found = run(parts.real, parts.release(parts.real.images))
        group = found.groups[1]
        assert group.figure("precision").synthetic.value > 0.95
        assert group.figure("kernel distance").difference.low < 0
        assert group.p_holm == 1
        assert group.two_sample is not None
        assert group.two_sample.accuracy < 0.5
        assert "copies its training patches has the best figures" in found.caveats[0]

    def test_brightness_in_its_unit(self, parts: Parts) -> None:
        found = self.group(parts, lambda images: images + 20)
        shift = found.figure("intensity distance")
        assert shift.unit == "HU"
        assert shift.difference.value == pytest.approx(20, abs=4)

    def test_a_class_drawn_as_the_other(self, parts: Parts) -> None:
        """Over all, a swap of the classes cannot be seen; class by class it must."""
        swapped = parts.release(pictures(1 - parts.labels, 1))
        found = run(parts.real, swapped)
        low = [group.figure("kernel distance").difference.low for group in found.groups]
        assert low[0] < 0 < min(low[1:])

    def test_lesion_size(self, parts: Parts) -> None:
        def discs(count: int, radius: float, seed: int) -> np.ndarray:
            rng = np.random.default_rng(seed)
            row, column = np.mgrid[:16, :16] - 7.5
            return np.hypot(row, column) < rng.uniform(radius - 1, radius + 1, (count, 1, 1))

        real = replace(parts.real, masks=discs(80, 4, 0))
        release = parts.release(pictures(parts.labels, 1))
        alike = run(real, release, masks=discs(80, 4, 1)).groups[1]
        large = run(real, release, masks=discs(80, 6, 1)).groups[1]
        name = "lesion size distance"
        assert alike.figure(name).difference.low < 0
        assert large.figure(name).unit == "mm"
        assert large.figure(name).synthetic.value == pytest.approx(4, abs=0.7)
        assert large.figure("lesion size, largest gap of shares").synthetic.value > 0.9
        empty = run(real, release, masks=np.zeros((80, 16, 16), dtype=bool)).groups[1]
        assert "every synthetic mask is empty" in " ".join(empty.missing)
        unmasked = run(parts.real, release, masks=discs(80, 4, 1)).groups[1]
        assert name not in {figure.name for figure in unmasked.figures}


class TestRefusals:
    """What cannot be compared is refused, with a reason."""

    def test_too_few_and_missing(self, make_patch_set: MakeSet, make_release: MakeRelease) -> None:
        parts = Parts(make_patch_set, make_release, patients=15)
        labels = np.zeros(30, dtype=np.int64)
        with pytest.raises(CohortError) as caught:
            run(parts.real, parts.release(pictures(labels, 1), labels))
        text = str(caught.value)
        assert "real patches: benign: 7 patch(es) of this class in a half" in text
        assert "release: malignant: 0 synthetic patch(es)" in text
        assert "release: benign" not in text

    def test_nan(self, parts: Parts) -> None:
        images = parts.real.images.copy()
        images[3, 0, 2, 2] = np.nan
        with pytest.raises(CohortError, match="NaN"):
            run(replace(parts.real, images=images), parts.release(parts.real.images))

    def test_shape(self, parts: Parts) -> None:
        with pytest.raises(CohortError, match="patch shape"):
            run(parts.real, parts.release(parts.real.images[..., :8]))

    def test_weight_file(self, parts: Parts) -> None:
        settings = EvaluationSettings(fidelity=FidelitySettings(features="nowhere.safetensors"))
        with pytest.raises(SettingsError, match="cannot be read"):
            fidelity(parts.real, parts.release(parts.real.images), settings, WINDOW, seed=0)

    def test_unknown_patients_are_said(self, parts: Parts) -> None:
        real = replace(parts.real, patients_known=False)
        found = run(real, parts.release(pictures(parts.labels, 1)))
        assert "does not say which patches belong to one patient" in found.caveats[-1]
        assert "halved by patch" in found.method[0]


class TestDistanceTo:
    """What training uses to choose a checkpoint."""

    def test_orders_checkpoints(self, parts: Parts) -> None:
        distance = distance_to(WINDOW.to_signed(parts.real.images))
        images = pictures(parts.labels, 1)

        def of(each: np.ndarray) -> float:
            return distance(WINDOW.to_signed(each), None)

        values = [of(ndimage.gaussian_filter(images, (0, 0, s, s))) for s in (0, 0.5, 1)]
        assert values == sorted(values)
        assert abs(values[0]) < 0.1 * values[1]
        assert of(images) == values[0]


@pytest.fixture
def masses(real_data: Callable[[str], Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    files = sorted(real_data("cbis_ddsm_mass_patches").rglob("train/**/*.png"))[::2]
    images = np.stack(
        [np.asarray(Image.open(each).convert("L").resize((32, 32))) for each in files]
    )
    labels = np.array(["is_benign_0" in each.name for each in files]).astype(np.int64)
    owners = np.array([int(each.name.split("__P_")[1][:5]) for each in files])
    return images[:, None].astype(np.float32), labels, owners


class TestRealPatches:
    """Mammography masses: other patients pass for real, blur and collapse do not."""

    def test_order(
        self,
        masses: tuple[np.ndarray, np.ndarray, np.ndarray],
        make_patch_set: MakeSet,
        make_release: MakeRelease,
    ) -> None:
        images, labels, owners = masses
        first = owners % 2 == 0
        real = make_patch_set(images[first], labels[first], CLASSES, owners[first])
        others, theirs = images[~first], labels[~first]
        picked = np.concatenate([np.flatnonzero(theirs == at)[:6] for at in (0, 1)])

        def measured(drawn: np.ndarray, of: np.ndarray) -> Group:
            return run(real, make_release(drawn, of, CLASSES)).groups[0]

        alike = measured(others, theirs)
        blurred = measured(ndimage.gaussian_filter(others, (0, 0, 1, 1)), theirs)
        collapsed = measured(np.tile(others[picked], (20, 1, 1, 1)), np.tile(theirs[picked], 20))
        assert alike.figure("kernel distance").difference.low < 0
        assert alike.p_holm is not None
        assert alike.p_holm > 0.05
        assert blurred.figure("kernel distance").difference.low > 0
        assert blurred.p_holm is not None
        assert blurred.p_holm < 0.01
        for name in ("recall", "coverage"):
            assert collapsed.figure(name).difference.high < 0
