"""The modes with differential privacy, from their settings to the paper of the release."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medaug.config import load_pipeline
from medaug.domain import PatchSet, deal_independently
from medaug.errors import CohortError, DisclosureError, SettingsError
from medaug.export.verify import verify_release
from medaug.forbidden import forbidden_words
from medaug.phantom import KINDS, render_lesion
from medaug.privacy import copies
from medaug.progress import Silent
from medaug.road.releasing import release
from medaug.road.run import Run
from medaug.road.training import train

SORTED = tuple(sorted(KINDS))
PLAIN = (
    "patching.mm_per_pixel=2.0",
    "privacy.epsilon=3",
    "privacy.per_class=4",
    "export.formats=[npz]",
)
VOTE = (
    *PLAIN,
    "privacy.mode=dp-vote",
    "generator={preset: dp-vote, window: [-100, 250]}",
    "privacy.dp_vote={candidates: 6, nearest: 2, perturb: [0.2, 0.1], left: 10}",
)
NETWORK = (
    "generator={preset: small-data, window: [-100, 250], loss: cross-entropy, penalty: 0, "
    "augment: 0, width: 4, latent: 8, batch: 8, learning_rate: 0.05, device: cpu}"
)
SGD = (
    *PLAIN,
    "privacy.mode=dp-sgd",
    "privacy.dp_sgd={rate: 0.3, steps: 20, generator_every: 2}",
    NETWORK,
)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.array([render_lesion(SORTED[row % 3], row, 32, 2.0)[0] for row in range(30)])


@pytest.fixture
def patches(pictures: np.ndarray, make_patch_set: Callable[..., PatchSet]) -> PatchSet:
    """60 patients with a patch of each class."""
    rows = np.arange(180)
    return make_patch_set(pictures[rows % 30][:, None], rows % 3, SORTED, rows // 3)


def run_of(patches: PatchSet, folder: Path, *settings: str) -> Run:
    key = f"site_key={folder / 'site.key'}"
    run = Run(load_pipeline("phantom", [*settings, key]), folder, Silent())
    vars(run)["patches"] = patches
    vars(run)["split"] = deal_independently(patches, (0.5, 0.25, 0.25), 0)
    return run


def at_site(run: Run, key: Path) -> Run:
    """The same run at a site whose key, and so whose ledger, others share."""
    other = replace(run, config=run.config.model_copy(update={"site_key": key}))
    vars(other).update(patches=run.patches, split=run.split)
    return other


class TestVotes:
    def test_the_release_carries_its_cost_and_saw_no_patch(
        self, patches: PatchSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Released from the votes alone: with every real pixel gone, the same bytes come out."""
        run = run_of(patches, tmp_path, *VOTE)
        train(run)
        monkeypatch.setattr(copies.CopyDetector, "fit", None)
        release(run)
        paper = tmp_path / "release" / "release.json"
        document = json.loads(paper.read_text())
        cost = document["cost"]
        assert document["mode"] == cost["mechanism"] == "dp-vote"
        assert 2.99 < cost["epsilon"] <= 3
        assert (cost["delta"], cost["unit"], cost["rounds"]) == (1e-5, "patient", 2)
        assert cost["relation"].startswith("add or remove one patient")
        assert cost["accountant"]
        assert cost["excluded"]
        assert cost["mu"] > 0
        assert [entry["samples"] for entry in document["classes"]] == [4, 4, 4]
        found = verify_release(tmp_path / "release")
        assert found.ok, found.problems
        for path in (tmp_path / "release").glob("*.md"):
            assert forbidden_words(path.read_text()) == []
        assert run.generator.record.patients == run.split.training

        first = paper.read_bytes()
        gone = replace(patches, images=np.full_like(patches.images, np.nan))
        blind = run_of(gone, tmp_path, *VOTE)
        vars(blind)["split"] = None
        release(blind)
        assert paper.read_bytes() == first

    def test_other_votes_each_time(self, patches: PatchSet, tmp_path: Path) -> None:
        for name in ("a", "b"):
            train(run_of(patches, tmp_path / name, *VOTE))
        files = [tmp_path / name / "generator" / "generator.safetensors" for name in ("a", "b")]
        assert files[0].read_bytes() != files[1].read_bytes()

    def test_the_cap_counts_every_run_of_the_site(self, patches: PatchSet, tmp_path: Path) -> None:
        """Three runs at ε = 3 cost about 5.5 together, not 9."""
        capped = (*VOTE, "privacy.epsilon_cap=5")
        site = tmp_path / "shared.key"
        for name in ("a", "b"):
            train(at_site(run_of(patches, tmp_path / name, *capped), site))
        third = at_site(run_of(patches, tmp_path / "c", *capped), site)
        with pytest.raises(DisclosureError, match=r"over 3 runs.*privacy\.epsilon_cap"):
            train(third)
        assert not (tmp_path / "c" / "generator" / "generator.safetensors").exists()
        with pytest.raises(SettingsError, match="epsilon_cap"):
            load_pipeline("phantom", [*VOTE, "privacy.epsilon_cap=2"])

    def test_what_rules_it_out(self, patches: PatchSet, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"privacy\.delta: 0\.01 for \d+ training"):
            train(run_of(patches, tmp_path, *VOTE, "privacy.delta=0.01"))
        with pytest.raises(CohortError, match="patients are not known"):
            train(run_of(replace(patches, patients_known=False), tmp_path, *VOTE))
        few = patches.select(range(90))
        with pytest.raises(CohortError, match="20 or more"):
            train(run_of(few, tmp_path, *VOTE))
        assert not (tmp_path / "generator").exists()


class TestNoisyGradients:
    def test_the_release_says_that_it_was_forced(self, patches: PatchSet, tmp_path: Path) -> None:
        pytest.importorskip("dp_accounting")
        with pytest.raises(SettingsError, match=r"choose privacy\.mode: dp-vote"):
            train(run_of(patches, tmp_path, *SGD))
        run = run_of(patches, tmp_path, *SGD, "privacy.force=true")
        train(run)
        release(run)
        document = json.loads((tmp_path / "release" / "release.json").read_text())
        assert document["cost"]["forced"] is True
        assert document["cost"]["rate"] == 0.3
        assert document["cost"]["accountant"].startswith("PLD, dp-accounting")
        assert any("it was forced" in said for said in document["statements"])
        assert verify_release(tmp_path / "release").ok


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (("generator={preset: dp-vote, window: [0, 1]}",), "privacy.mode is empirical"),
            ((*VOTE, "patching.mm_per_pixel=null"), "mm_per_pixel"),
            (("privacy.epsilon=3",), "mode empirical has none"),
            (("privacy.mode=dp-vote",), "needs one"),
        ],
    )
    def test_faults(self, changes: tuple[str, ...], says: str) -> None:
        with pytest.raises(SettingsError, match=says):
            load_pipeline("phantom", changes)

    def test_mode_and_epsilon_suffice_for_votes(self) -> None:
        config = load_pipeline("phantom", ["privacy={mode: dp-vote, epsilon: 3}"])
        assert (config.generator.preset, config.generator.window) == ("dp-vote", (-100, 250))
        assert config.resolved()["generator"]["instead_of"] == "small-data"

    def test_what_is_charged_decides_the_stamp_of_training(self, tmp_path: Path) -> None:
        from medaug.pipeline import _stamps

        (tmp_path / "dicom").mkdir()
        (tmp_path / "nifti").mkdir()

        def stamps(*more: str) -> dict[str, str]:
            config = load_pipeline("phantom", [*VOTE, *more], data=tmp_path)
            return _stamps(Run(config, tmp_path, Silent()))

        same, more, quota = stamps(), stamps("privacy.epsilon=8"), stamps("privacy.per_class=9")
        assert same["train"] != more["train"]
        assert same["train"] == quota["train"]
        assert same["release"] != quota["release"]
