"""Cross-validation with refitted generators: who may judge, what is chosen where, and resuming."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folding import CLASSES, Generators, drawn
from pydantic import ValidationError

from medaug.domain import (
    HeldOut,
    PatchSet,
    PatientSplit,
    Sealed,
    Window,
    deal_folds,
)
from medaug.errors import CohortError, Fault, InputError, LeakageError
from medaug.evaluation import bench, crossed
from medaug.evaluation.bench import External
from medaug.evaluation.nested import WITH, WITHOUT, Nested, cross_validate
from medaug.evaluation.policies import SYNTHETIC, arms_of
from medaug.evaluation.refits import Refitted
from medaug.evaluation.settings import EvaluationSettings
from medaug.evaluation.training import Scores, train_and_score

WINDOW = Window(-100.0, 200.0)


class Listener:
    def __init__(self) -> None:
        self.total = self.done = 0
        self.notes: list[str] = []

    def start(self, _: str, total: int, __: str = "") -> None:
        self.total += total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.notes.append(note)


@pytest.fixture
def settings(quick: EvaluationSettings) -> EvaluationSettings:
    return quick.model_copy(update={"folds": 2, "doses": (0.0, 0.5, 2.0)})


@pytest.fixture
def patches(study: Callable[..., Any]) -> PatchSet:
    """60 patches of 20 patients, each with a patch of every class."""
    found: PatchSet = study().held
    return found


@pytest.fixture
def splits(patches: PatchSet) -> tuple[PatientSplit, ...]:
    return deal_folds(patches, 2, seed=0)


@pytest.fixture
def run(
    patches: PatchSet,
    splits: tuple[PatientSplit, ...],
    settings: EvaluationSettings,
    tmp_path: Path,
) -> Callable[..., Nested]:
    def call(**changed: Any) -> Nested:
        given: dict[str, Any] = {
            "patches": patches,
            "splits": splits,
            "refit": Generators(),
            "settings": settings,
            "window": WINDOW,
            "seed": 0,
            "folder": tmp_path,
        }
        return cross_validate(**{**given, **changed})

    return call


@pytest.fixture
def _untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a classifier was trained")

    monkeypatch.setattr(bench, "train_and_score", refuse)


class TestFolds:
    """Everybody judges once, by patient, and every part holds every class."""

    @pytest.mark.parametrize(("folds", "patients"), [(2, 12), (3, 31), (5, 200)])
    def test_patients_are_dealt_once(
        self, make_patch_set: Callable[..., PatchSet], folds: int, patients: int
    ) -> None:
        rng = np.random.default_rng(folds)
        owner = np.sort(rng.integers(patients, size=3 * patients))
        labels = rng.choice(3, size=len(owner), p=[0.6, 0.3, 0.1])
        images = np.zeros((len(owner), 1, 8, 8))
        cohort = make_patch_set(images, labels, CLASSES, owner)
        splits = deal_folds(cohort, folds, seed=3)
        judged = [key for split in splits for key in split.test]
        assert sorted(judged, key=str) == sorted(cohort.patient_order, key=str)
        assert deal_folds(cohort, folds, seed=3) == splits != deal_folds(cohort, folds, seed=4)
        whole = np.array(list(cohort.patients_per_class().values()))
        for split in splits:
            assert split.training | split.tuning | split.test == set(cohort.patient_order)
            rest = len(cohort.patient_order) - len(split.test)
            assert abs(len(split.tuning) - rest / 4) < 2
            shown = np.array(list(split.part(cohort, "test").patients_per_class().values()))
            assert (abs(shown - whole / folds) <= 2).all()


class TestRefused:
    """Broken protocols do not run."""

    def refused(self, run: Callable[..., Nested], kind: type[InputError], **changed: Any) -> str:
        with pytest.raises(kind) as caught:
            run(**changed)
        return str(caught.value)

    @pytest.mark.usefixtures("_untrained")
    def test_a_generator_trained_on_those_who_tune(self, run: Any, splits: Any) -> None:
        """A record may list more than the training part: what a generator began from counts."""

        def seen(made: Refitted) -> Refitted:
            patients = made.record.patients | splits[0].tuning
            return replace(made, record=replace(made.record, patients=patients))

        message = self.refused(run, LeakageError, refit=Generators(seen))
        assert f"trained on {len(splits[0].tuning)} of the patients who tune" in message

    def test_a_generator_trained_on_those_who_judge(
        self, run: Any, splits: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scored = []

        def seen(made: Refitted) -> Refitted:
            patients = made.record.patients | splits[0].test
            return replace(made, record=replace(made.record, patients=patients))

        def noted(name: Any, arm: Any, diet: Any, *given: Any) -> Any:
            scored.append(len(diet.test))
            return train_and_score(name, arm, diet, *given)

        monkeypatch.setattr(bench, "train_and_score", noted)
        message = self.refused(run, LeakageError, refit=Generators(seen))
        assert f"{len(splits[0].test)} of its patients were trained on" in message
        assert set(scored) == {0}

    def test_everybody_for_every_fold(self, run: Any, patches: PatchSet) -> None:
        """The usual fault: one generator of the whole cohort, and honest folds after it."""
        everybody = Generators()(patches, patches, 0, Path(), dict.fromkeys(CLASSES, 200))
        message = self.refused(run, LeakageError, refit=lambda *_: everybody)
        assert "other patches than the training part" in message

    @pytest.mark.usefixtures("_untrained")
    def test_a_generator_that_was_not_refitted(self, run: Any, patches: PatchSet) -> None:
        def of_everybody(made: Refitted) -> Refitted:
            return replace(made, record=replace(made.record, patches_digest=patches.digest))

        message = self.refused(run, LeakageError, refit=Generators(of_everybody))
        assert "other patches than the training part of this fold" in message

    @pytest.mark.usefixtures("_untrained")
    def test_too_few_or_strange_candidates(self, run: Any) -> None:
        def fewer(made: Refitted) -> Refitted:
            return replace(made, candidates=made.candidates.select(np.arange(5)))

        message = self.refused(run, CohortError, refit=Generators(fewer))
        assert "haemangioma: 0 patches" in message

    def test_a_synthetic_patch_among_those_that_judge(
        self, run: Any, patches: PatchSet, splits: Any, study: Any
    ) -> None:
        release = study(seed=4).release
        row = patches.patients.index(next(iter(splits[1].test)))
        images = patches.images.copy()
        images[row] = release.images[7]
        mixed = replace(patches, images=images)
        assert "1 synthetic patches" in self.refused(
            run, LeakageError, patches=mixed, synthetic=[release]
        )

    def test_nothing_but_real_patches_is_sealed(self) -> None:
        with pytest.raises(LeakageError, match="a Candidates"):
            Sealed(drawn({"cyst": 2}, 0))  # type: ignore[arg-type]

    @pytest.mark.usefixtures("_untrained")
    def test_splits_by_image(self, run: Any, patches: PatchSet) -> None:
        nameless = replace(patches, patients_known=False)
        assert "of one patient" in self.refused(run, LeakageError, patches=nameless)
        with pytest.raises(LeakageError, match="of one patient"):
            deal_folds(nameless, 2, seed=0)
        first, *rest = patches.patient_order
        with pytest.raises(LeakageError, match="two parts"):
            PatientSplit(frozenset([first, rest[0]]), frozenset(rest[1:]), frozenset([first]))

    @pytest.mark.usefixtures("_untrained")
    def test_a_patient_who_judges_twice(self, run: Any, splits: Any) -> None:
        assert "10 patients judge in more than one fold" in self.refused(
            run, LeakageError, splits=[splits[0], splits[0]]
        )

    @pytest.mark.usefixtures("_untrained")
    def test_one_fold_and_a_class_that_lacks(
        self, run: Any, splits: Any, patches: PatchSet
    ) -> None:
        assert "at least 2" in self.refused(run, CohortError, splits=splits[:1])
        gone = splits[0].test
        kept = [
            row
            for row, key in enumerate(patches.patients)
            if key not in gone or patches.labels[row] != 2
        ]
        message = self.refused(run, CohortError, patches=patches.select(kept))
        assert "fold 1, test part: metastasis" in message

    def test_a_choice_made_on_those_who_judge(self, patches: PatchSet, splits: Any) -> None:
        test = splits[0].part(patches, "test")
        with pytest.raises(LeakageError, match="10 of its patients something was learnt or chosen"):
            Sealed(test).open((), chosen_on=patches.patients)

    def test_a_second_look(self, patches: PatchSet, splits: Any) -> None:
        sealed = Sealed(splits[0].part(patches, "test"))
        assert not any(isinstance(value, PatchSet) for name, value in sealed_public(sealed))
        assert isinstance(sealed.open((), ()), HeldOut)
        with pytest.raises(LeakageError, match="opened before"):
            sealed.open((), ())

    @pytest.mark.parametrize(
        "given",
        [
            {"seeds": 1},
            {"folds": 1},
            {"doses": [0]},
            {"doses": [1, 0]},
            {"learning_curve": [0.5, 1]},
            {"folds": 3, "learning_curve": [0.5]},
            {"table": "frid-adar-2018"},
        ],
    )
    def test_settings_that_do_not_hold_together(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            EvaluationSettings(**given)

    @pytest.mark.usefixtures("_untrained")
    def test_an_external_set_with_patients_of_the_cohort(self, run: Any, patches: PatchSet) -> None:
        same = [External("elsewhere", patches)]
        assert "20 of its patients are in the cohort" in self.refused(
            run, LeakageError, external=same
        )


def sealed_public(sealed: Sealed) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(sealed).items() if "__" not in name]


class TestProtocol:
    """What is trained on what, and what chooses."""

    def test_nobody_who_judges_is_seen_before_everything_is_chosen(
        self,
        run: Any,
        splits: Any,
        patches: PatchSet,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seen: list[tuple[str, int, str]] = []
        opened: list[Sealed] = []
        open_it = Sealed.open

        def noted(self: Sealed, *given: Any) -> HeldOut:
            opened.append(self)
            return open_it(self, *given)

        def counted(name: Any, arm: Any, diet: Any, *given: Any) -> Any:
            seen.append((arm.name, len(diet.test), "open" if len(opened) else "closed"))
            return train_and_score(name, arm, diet, *given)

        monkeypatch.setattr(Sealed, "open", noted)
        monkeypatch.setattr(bench, "train_and_score", counted)
        generators = Generators()
        found = run(refit=generators)
        assert len(opened) == 2
        assert seen[:3] == [
            ("real+classical", 0, "closed"),
            ("real+classical+gan", 0, "closed"),
            ("real+classical+gan", 0, "closed"),
        ]
        tested = splits[0].part(patches, "test")
        assert {count for _, count, _ in seen[3:]} == {0, len(tested), 60 - len(tested)}
        for (training, tuning), split in zip(generators.trained_on, splits, strict=True):
            assert set(training.patients) == split.training
            assert set(tuning.patients) == split.tuning
        names = {name for _, name in found.scores}
        assert names == {*(arm.name for arm in arms_of(EvaluationSettings())), WITH, WITHOUT}
        for runs in found.scores.values():
            assert [(each.fold, each.seed) for each in runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
            for each in runs:
                assert set(each.test.patients) == splits[each.fold].test
                assert set(each.tuning.patients) == splits[each.fold].tuning

    @pytest.mark.parametrize("wanted", [0.0, 0.5, 2.0])
    def test_the_dose_is_what_the_tuning_part_chose(
        self, run: Any, splits: Any, monkeypatch: pytest.MonkeyPatch, wanted: float
    ) -> None:
        """Scores of the tuning part are rigged in favour of one dose; the arms follow."""
        fed: dict[str, tuple[int, float]] = {}
        doses = iter([0.0, 0.5, 2.0] * 2)

        def rigged(_: Any, arm: Any, diet: Any, settings: Any, *__: Any) -> Scores:
            chosen = not len(diet.test) and next(doses) == wanted
            if len(diet.test) == len(splits[0].test) * 3:
                plan = arm.policy(settings.dose_of(diet.names)).plan(diet.pool, 6000, 0, 0)
                made = plan.row[plan.source == SYNTHETIC]
                fed[arm.name] = len(made.unique()), len(made) / 6000
            right = np.eye(3)[diet.tuning_labels]
            tuning = right if chosen else np.roll(right, 1, axis=1)
            return Scores(tuning, np.full((len(diet.test), 3), 1 / 3))

        monkeypatch.setattr(bench, "train_and_score", rigged)
        found = run()
        assert [choice.dose for choice in found.choices] == [wanted, wanted]
        real = 3 * len(splits[0].training)
        if wanted:
            count, share = fed["real+classical+gan"]
            assert count == pytest.approx(wanted * real, abs=3)
            assert share == pytest.approx(wanted / (1 + wanted), abs=0.05)
            assert fed["real+gan"] == (count, share)
        else:
            # Dose 0 is the arm without: it was trained once, and is both.
            assert "real+classical+gan" not in fed
            key = "frid-adar-2018"
            for mixed, plain in (("real+gan", "real"), ("real+classical+gan", "real+classical")):
                for one, other in zip(
                    found.scores[key, mixed], found.scores[key, plain], strict=True
                ):
                    assert np.array_equal(one.test.probabilities, other.test.probabilities)
        assert fed["gan"][0] == real

    def test_the_best_policy_is_that_of_the_tuning_part(self, run: Any) -> None:
        found = run()
        for choice in found.choices:
            for name, chosen in ((WITHOUT, choice.without), (WITH, choice.with_synthetic)):
                ours = [
                    each.test.probabilities
                    for each in found.scores[choice.classifier, name]
                    if each.fold == choice.fold
                ]
                theirs = [
                    each.test.probabilities
                    for each in found.scores[choice.classifier, chosen]
                    if each.fold == choice.fold
                ]
                assert np.array_equal(ours, theirs)

    def test_it_goes_on_where_it_was_stopped(
        self, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        whole = run(folder=tmp_path / "whole")
        trained: list[str] = []

        def until(most: int) -> Callable[..., Any]:
            def call(name: Any, arm: Any, *given: Any) -> Any:
                if len(trained) == most:
                    raise KeyboardInterrupt
                trained.append(arm.name)
                return train_and_score(name, arm, *given)

            return call

        with monkeypatch.context() as patched:
            patched.setattr(bench, "train_and_score", until(17))
            with pytest.raises(KeyboardInterrupt):
                run(folder=tmp_path / "broken")
        listener = Listener()
        with monkeypatch.context() as patched:
            patched.setattr(bench, "train_and_score", until(1000))
            resumed = run(folder=tmp_path / "broken", progress=listener)
        scores = len(list((tmp_path / "whole").rglob("*.npz")))
        assert len(trained) == scores
        assert listener.done == listener.total
        assert any(
            "fold 2, frid-adar-2018, gan, dose 1.0, seed 2" in note for note in listener.notes
        )
        assert any("min left" in note for note in listener.notes)
        assert resumed.choices == whole.choices
        for key, runs in whole.scores.items():
            for one, other in zip(runs, resumed.scores[key], strict=True):
                assert np.array_equal(one.test.probabilities, other.test.probabilities)


class TestDocument:
    """What the report reads: shares of patients, other sites and the verdict."""

    def test_everything_is_there_and_finite(
        self, run: Any, patches: PatchSet, settings: EvaluationSettings, study: Any
    ) -> None:
        elsewhere = study(sizes=(300, 30, 30), seed=9).held
        moved = tuple(replace(key, token=key.token[::-1]) for key in elsewhere.patients)
        outside = [External("elsewhere", replace(elsewhere, patients=moved))]
        own = settings.model_copy(update={"learning_curve": (0.5, 1.0)})
        generators = Generators()
        found = run(settings=own, external=outside, refit=generators)
        document = crossed.document(found, patches, own, 0, outside)
        json.dumps(document, allow_nan=False)
        assert document["folds"] == 2
        assert len(document["choices"]) == 2
        assert [row["dose"] for row in document["doses"]["frid-adar-2018"]] == [0, 0.5, 2]
        assert sum(row["chosen"] for row in document["doses"]["frid-adar-2018"]) == 2
        assert document["verdict"]["word"] in ("helps", "hurts", "no evidence")
        said_of = {2.0: "2 seeds × 2 folds, 20 test patients", 0.0: "chose none of them"}
        for dose, words in said_of.items():
            choices = tuple(replace(each, dose=dose) for each in found.choices)
            said = crossed.document(replace(found, choices=choices), patches, own, 0, outside)
            assert words in said["verdict"]["sentence"]
        (site,) = document["external"]
        assert site["test"] == {"patients": 10, "patches": 30, "patients_known": True}
        assert {arm["arm"] for arm in site["arms"]} == {arm["arm"] for arm in document["arms"]}
        rows = document["learning_curve"]["rows"]
        assert [row["share"] for row in rows] == [0.5, 1.0]
        assert rows[0]["patients"] < rows[1]["patients"]
        # A generator of its own for every fold and share, on the share's patients alone.
        sizes = [len(set(training.patients)) for training, *_ in generators.trained_on]
        assert len(sizes) == 4
        small, large = generators.trained_on[1][0], generators.trained_on[0][0]
        assert set(small.patients) < set(large.patients)

    def test_a_share_too_small_to_train_is_said(
        self, run: Any, patches: PatchSet, settings: EvaluationSettings
    ) -> None:
        class Choosy(Generators):
            def __call__(self, training: PatchSet, *given: Any) -> Refitted:
                if len(set(training.patients)) < 6:
                    raise CohortError(Fault("class 'cyst'", "too few"))
                return super().__call__(training, *given)

        own = settings.model_copy(update={"learning_curve": (0.5, 1.0)})
        found = run(settings=own, refit=Choosy())
        curve = crossed.document(found, patches, own, 0)["learning_curve"]
        assert [row["share"] for row in curve["rows"]] == [1.0]
        assert curve["left_out"] == {"0.5": "class 'cyst': too few"}
