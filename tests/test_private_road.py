"""The modes with differential privacy over the whole road, from files and a YAML to the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from medaug.config import load_pipeline
from medaug.domain import Window
from medaug.errors import CohortError, DisclosureError, SettingsError
from medaug.export.verify import verify_release
from medaug.forbidden import forbidden_words
from medaug.phantom.mass import PARAMETERS, mass_renderer
from medaug.pipeline import run_pipeline
from medaug.site import open_ledger

QUICK = {
    "seeds": 2,
    "steps": 5,
    "bootstrap": 500,
    "classifiers": ["resnet-10-narrow"],
    "fidelity": {"deals": 20},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 pictures of 65 patients, each with a benign and a malignant one, below a folder."""
    root = tmp_path_factory.mktemp("pictures")
    render = mass_renderer(Window(0, 255), (1, 32, 32))
    rng = np.random.default_rng(0)
    for row in range(130):
        label = ("benign", "malignant")[row % 2]
        numbers = np.clip(0.3 + 0.2 * (row % 2) + 0.05 * rng.standard_normal(len(PARAMETERS)), 0, 1)
        image = render(label, numbers[None], [row])[0][0, 0]
        path = root / label / f"P{row // 2:03d}_{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.round().astype(np.uint8)).save(path)
    return root


def written(folder: Path, pictures: Path, **changes: object) -> Path:
    """A pipeline file of a study that says of privacy nothing but the mode and epsilon."""
    pattern = r"(?P<label>benign|malignant)/(?P<patient>P\d+)_\d+\.png$"
    document = {
        "name": "pictures",
        "data": str(pictures),
        "site_key": str(folder / "site.key"),
        "sources": [{"kind": "images", "pattern": pattern, "modality": "MG"}],
        "patching": {"size": 32, "mm_per_pixel": None},
        "cohort": {"fractions": [0.6, 0.2, 0.2]},
        "generator": {"preset": "small-data", "window": [0, 255], "images": 24000},
        "privacy": {"mode": "dp-vote", "epsilon": 3},
        "export": {"formats": ["npz"]},
        "evaluation": QUICK,
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class TestTwoWordsSuffice:
    """``privacy: {mode: dp-vote, epsilon: 3}`` in any pipeline gives a release with its cost."""

    @pytest.mark.slow
    def test_over_the_whole_road(self, pictures: Path, tmp_path: Path) -> None:
        config = load_pipeline(written(tmp_path, pictures), ["privacy.per_class=30"])
        page = run_pipeline(config, tmp_path / "run").read_text(encoding="utf-8")
        release = tmp_path / "run" / "release"
        paper = json.loads((release / "release.json").read_text())
        assert (paper["mode"], paper["cost"]["mechanism"]) == ("dp-vote", "dp-vote")
        assert 2.99 < paper["cost"]["epsilon"] <= 3
        assert [entry["samples"] for entry in paper["classes"]] == [30, 30]
        sheet = (release / "DATASHEET.md").read_text()
        assert "**ε** 3 at **δ** 1e-05" in sheet or "**ε** 2.9" in sheet
        assert forbidden_words(sheet) == []
        found = verify_release(release)
        assert found.ok, found.problems
        evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
        assert evaluation["verdict"]["word"] in ("helps", "no evidence", "hurts")
        assert {group["label"] for group in evaluation["fidelity"]["groups"]} == {
            None,
            "benign",
            "malignant",
        }
        for said in ("small-data and its settings played no part", "drawn as a mass", "dp-vote"):
            assert said in page
        training = json.loads((tmp_path / "run" / "split.json").read_text())["parts"]["training"]
        ledger = open_ledger(config.ledger, config.site_key)
        entries = ledger.history(set(training["patients"]))
        assert {"attempt", "reserve", "commit"} <= {entry["kind"] for entry in entries}

        # The same patients once more: epsilon_cap is epsilon where nothing else is said.
        again = config.model_copy(update={"seed": config.seed, "name": "again"})
        with pytest.raises(DisclosureError, match=r"epsilon_cap; not set, it is privacy\.epsilon"):
            run_pipeline(again, tmp_path / "again")

    @pytest.mark.parametrize(
        ("changes", "error", "says"),
        [
            ({"privacy": {"mode": "dp-vote", "epsilon": 3, "delta": 0.01}}, SettingsError, "delta"),
            (
                {
                    "privacy": {"mode": "dp-sgd", "epsilon": 3},
                    "generator": {
                        "preset": "small-data",
                        "window": [0, 255],
                        "loss": "cross-entropy",
                        "penalty": 0,
                        "augment": 0,
                        "device": "cpu",
                    },
                },
                SettingsError,
                r"privacy\.force",
            ),
            (
                {
                    "sources": [
                        {
                            "kind": "images",
                            "pattern": r"(?P<label>benign|malignant)/P\d+_\d+\.png$",
                            "modality": "MG",
                            "patient_identity": "none",
                        }
                    ]
                },
                CohortError,
                r"patients are not known, and privacy\.mode",
            ),
        ],
    )
    def test_what_is_refused_spends_nothing(
        self,
        pictures: Path,
        tmp_path: Path,
        changes: dict[str, object],
        error: type[Exception],
        says: str,
    ) -> None:
        config = load_pipeline(written(tmp_path, pictures, **changes))
        with pytest.raises(error, match=says):
            run_pipeline(config, tmp_path / "run")
        assert not (tmp_path / "run" / "generator" / "generator.safetensors").exists()
        ledger = open_ledger(config.ledger, config.site_key)
        patients = json.loads((tmp_path / "run" / "split.json").read_text())["parts"]["training"]
        assert ledger.history(set(patients["patients"])) == []
