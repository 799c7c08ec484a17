"""The tuning patients' word: which weights are kept, and when training ends."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import cdist

from medaug.domain import Window
from medaug.generators import evidence, training
from medaug.generators.diversity import Diversity
from medaug.generators.evidence import SAMPLES, Best, Evidence, Tuning, Witness, memorised
from medaug.generators.training import train_generator

RNG = np.random.default_rng(3)


def told(far, fresh=1.0):
    return Evidence({"cyst": far}, {"cyst": fresh})


def test_memorised_against_a_slow_twin_where_both_are_of_one_size() -> None:
    drawn, training, tuning = (RNG.normal(size=(n, 5)).astype(np.float32) for n in (9, 12, 12))
    medians = [np.median(cdist(drawn, one).min(1)) for one in (training, tuning)]
    assert memorised(drawn, training, tuning) == pytest.approx(medians[0] / medians[1], rel=1e-5)


def test_more_training_than_tuning_patients_do_not_look_like_memory() -> None:
    """Without thinning out, the nearest of 400 lies nearer than the nearest of 20."""
    drawn, training, tuning = (RNG.normal(size=(n, 8)).astype(np.float32) for n in (300, 400, 20))
    assert 0.93 < memorised(drawn, training, tuning) < 1.07
    naive = np.median(cdist(drawn, training).min(1)) / np.median(cdist(drawn, tuning).min(1))
    assert naive < 0.8


def test_patches_learnt_by_heart_are_seen() -> None:
    training, tuning = (RNG.normal(size=(40, 8)).astype(np.float32) for _ in range(2))
    copies = training + RNG.normal(0, 0.1, training.shape).astype(np.float32)
    assert memorised(copies, training, tuning) < 0.3
    assert memorised(RNG.normal(size=(40, 8)).astype(np.float32), training, tuning) > 0.9


def test_the_best_is_the_nearest_that_was_not_learnt_by_heart() -> None:
    best = Best()
    for step, (far, fresh) in enumerate([(5, 1), (2, 0.5), (3, 1), (4, 1)], start=1):
        best = best.after(told(far, fresh), 0.9, step, {"w": torch.tensor([float(step)])})
    assert (best.far, best.step, best.weights["w"].item()) == (3, 3, 3.0)
    again = Best.restored(best.state())
    assert (again.far, again.step, again.by_heart) == (3, 3, 0)
    assert again.weights["w"].item() == 3.0
    assert Best.restored(Best().state()).weights == {}


def test_judgements_in_a_row_are_counted() -> None:
    best = Best()
    for fresh, row in [(0.5, 1), (0.8, 2), (0.95, 0), (0.1, 1)]:
        best = best.after(told(1, fresh), 0.9, 1, {})
        assert best.by_heart == row


def test_a_class_without_enough_tuning_patches_is_left_out(discs) -> None:
    learnt, few = discs(24), discs(6)
    distance = dict.fromkeys(few.classes, lambda images: float(len(images)))
    drawn = {label: np.zeros((SAMPLES, 1, 32, 32), np.float32) for label in learnt.classes}
    assert Witness(learnt, Tuning(few, distance), Window(-100, 250)).judge(drawn) is None
    enough = Witness(learnt, Tuning(discs(10), distance), Window(-100, 250)).judge(drawn)
    assert enough is not None
    assert enough.far == SAMPLES
    assert set(enough.memorised) == {"cyst", "metastasis"}


def scripted(discs, far):
    """A distance that gives these numbers one after another."""
    numbers = iter(far)
    return Tuning(discs(12), {"cyst": lambda _: next(numbers)})


def lines(folder):
    return list(map(json.loads, (folder / "training.jsonl").read_text().splitlines()))


def test_the_weights_of_the_best_judgement_are_kept(discs, settings, tmp_path) -> None:
    own = settings(judge_every=2, memorised_below=0)  # 6 steps of 8
    judged = train_generator(
        discs(), own, 1, tmp_path / "a", tuning=scripted(discs, [3.0, 1.0, 2.0])
    )
    shorter = train_generator(discs(), own.model_copy(update={"images": 32}), 1, tmp_path / "b")
    assert judged.record.weights_digest != ""
    np.testing.assert_array_equal(judged.sample("cyst", [1]), shorter.sample("cyst", [1]))
    assert json.loads((tmp_path / "a" / "config.json").read_text())["kept_steps"] == [4]
    judgements = [line["distance"]["cyst"] for line in lines(tmp_path / "a") if "distance" in line]
    assert judgements == [3.0, 1.0, 2.0]


def test_training_ends_when_patients_are_learnt_by_heart(
    discs, settings, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(evidence, "memorised", lambda *_: 0.5)
    own = settings(judge_every=1, images=80)
    generator = train_generator(discs(), own, 1, tmp_path, tuning=scripted(discs, range(10)))
    assert generator.record.images_shown == 3 * 8
    assert [line["memorised"]["cyst"] for line in lines(tmp_path)] == [0.5] * 3
    early, last = generator.notes[-2:]
    assert "ended 7 steps early" in early
    assert "(at the last 0.50 of the distance; the limit is 0.9)" in early
    assert "no better weights than the last, of step 3 (0.50 of the distance" in last


def test_an_early_stop_that_kept_good_weights_says_so(
    discs, settings, tmp_path, monkeypatch
) -> None:
    fresh = iter([0.95, 0.5, 0.5, 0.5])
    monkeypatch.setattr(evidence, "memorised", lambda *_: next(fresh))
    own = settings(judge_every=1, images=80)
    generator = train_generator(discs(), own, 1, tmp_path, tuning=scripted(discs, range(10)))
    notes = [note for note in generator.notes if "collapsed" not in note]
    assert len(notes) == 1
    assert "ended 6 steps early" in notes[0]
    assert "The weights of step 1 are kept" in notes[0]


def test_a_collapse_is_that_of_the_kept_weights(discs, settings, tmp_path, monkeypatch) -> None:
    judged = []

    def none_left(network, *_):
        judged.append(network.first.weight.clone())
        return Diversity(0.0, 0.0), Diversity(1.0, 1.0)

    monkeypatch.setattr(training, "measured", none_left)
    own = settings(judge_every=2, memorised_below=0)
    far = scripted(discs, [1.0, 2.0, 3.0])
    generator = train_generator(discs(), own, 1, tmp_path, tuning=far)
    assert "collapsed on class cyst" in generator.notes[0]
    assert json.loads((tmp_path / "config.json").read_text())["kept_steps"] == [2]
    kept = load_file(tmp_path / "generator.safetensors")["0.first.weight"]
    assert judged
    assert all(torch.equal(weight, kept) for weight in judged)


def test_other_tuning_patients_are_another_run(discs, settings, tmp_path) -> None:
    def stopped(_step, _samples):
        raise KeyboardInterrupt

    own = settings(judge_every=2, checkpoint_every=2, sample_sheet_every=4)
    tuning = scripted(discs, range(9))
    with pytest.raises(KeyboardInterrupt):
        train_generator(discs(), own, 1, tmp_path, on_samples=stopped, tuning=tuning)
    other = replace(tuning, patches=discs(14))
    with pytest.raises(Exception, match="other tuning patches"):
        train_generator(discs(), own, 1, tmp_path, tuning=other)
