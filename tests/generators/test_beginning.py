"""Beginning from another generator: what fits, what is taken, and whose patients are remembered."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medaug.config import load_pipeline
from medaug.domain import HeldOut, PatchSet, PatientKey
from medaug.errors import LeakageError, RunFolderError, SettingsError
from medaug.generators.settings import GeneratorSettings
from medaug.generators.trained import load_generator
from medaug.generators.training import train_generator
from medaug.privacy.lineage import PUBLIC_BEGINNING, lineage_reasons, lineage_statements

Make = Callable[..., PatchSet]
Chosen = Callable[..., GeneratorSettings]


def elsewhere(patches: PatchSet) -> PatchSet:
    """The same patches of other patients."""
    return replace(patches, patients=tuple(PatientKey("e" + k.token[1:]) for k in patches.patients))


@pytest.fixture
def earlier(discs: Make, settings: Chosen, tmp_path: Path) -> Path:
    folder = tmp_path / "earlier"
    train_generator(elsewhere(discs(low=-50)), settings(), 5, folder)
    return folder


def test_the_weights_are_those_of_the_earlier_one_at_first(
    discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
) -> None:
    own = settings(init=earlier, images=8, learning_rate=1e-12, ema=0)
    begun = train_generator(discs(), own, 0, tmp_path / "new")
    fresh = train_generator(discs(), settings(images=8), 0, tmp_path / "fresh")
    before = load_generator(earlier)
    assert begun.record.weights_digest != before.record.weights_digest
    weights = [dict(one._networks[0].named_parameters()) for one in (begun, before, fresh)]
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weight, weights[1][name], atol=1e-7, err_msg=name)
    assert not np.allclose(weights[1]["first.weight"], weights[2]["first.weight"], atol=1e-3)


def test_each_network_of_one_per_class_begins_from_its_own(
    discs: Make, settings: Chosen, tmp_path: Path
) -> None:
    own = {"preset": "frid-adar-2018"}
    before = train_generator(discs(), settings(**own), 5, tmp_path / "earlier")
    still = settings(**own, init=tmp_path / "earlier", images=16, learning_rate=1e-12)
    begun = train_generator(discs(), still, 0, tmp_path / "new")
    for new, old in zip(begun._networks, before._networks, strict=True):
        np.testing.assert_allclose(new.first.weight, old.first.weight, atol=1e-7)


def test_every_misfit_is_named_and_nothing_is_written(
    discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
) -> None:
    wrong = settings(
        init=earlier, window=(-200, 300), width=8, kernel=5, outputs=("image", "mask"), batch=50
    )
    patches = replace(discs(), classes=("cyst", "haemangioma"), modality="MR")
    with pytest.raises(SettingsError) as refused:
        train_generator(patches, wrong, 0, tmp_path / "new")
    text = str(refused.value)
    for said in ("classes: cyst, meta", "window: -100", "modality: CT", "width: 4", "kernel: 4"):
        assert said in text
    assert "outputs: image" in text
    assert "generator.batch" in text
    assert len(refused.value.faults) == 7
    assert not (tmp_path / "new").exists()


def test_what_is_no_generator_is_refused(discs: Make, settings: Chosen, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"generator\.init: .*config.json is not there"):
        train_generator(discs(), settings(init=tmp_path / "nowhere"), 0, tmp_path / "new")
    with pytest.raises(ValueError, match="speaks of the generator of init"):
        settings(init_is_public=True)


def test_another_beginning_is_another_run(
    discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
) -> None:
    train_generator(discs(), settings(init=earlier), 0, tmp_path / "new")
    train_generator(discs(), settings(), 6, tmp_path / "third")
    for other in (settings(), settings(init=tmp_path / "third")):
        with pytest.raises(RunFolderError, match="other weights to begin from"):
            train_generator(discs(), other, 0, tmp_path / "new")


class TestLineage:
    """Nobody's patches are forgotten because they came by way of another generator."""

    def test_the_earlier_patients_cannot_judge(
        self, discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
    ) -> None:
        own = settings(init=earlier, init_is_public=True)
        record = train_generator(discs(), own, 0, tmp_path / "new").record
        assert record.patients == set(discs().patients) | set(elsewhere(discs()).patients)
        with pytest.raises(LeakageError, match="24 of its patients"):
            HeldOut(elsewhere(discs()), lineage=(record,))
        assert str(earlier) not in (tmp_path / "new" / "config.json").read_text()

    def test_the_gate_refuses_until_the_site_declares_it_public(
        self, discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
    ) -> None:
        private = train_generator(discs(), settings(init=earlier), 0, tmp_path / "a").record
        (reason,) = lineage_reasons(private, discs())
        assert "patches of 24 patients which the gate does not hold" in reason
        assert lineage_statements(private) == ()
        own = settings(init=earlier, init_is_public=True)
        public = train_generator(discs(), own, 0, tmp_path / "b").record
        assert lineage_reasons(public, discs()) == []
        assert lineage_statements(public) == (PUBLIC_BEGINNING,)

    def test_a_public_step_between_launders_nothing(
        self, discs: Make, settings: Chosen, tmp_path: Path, earlier: Path
    ) -> None:
        train_generator(discs(low=0), settings(init=earlier), 0, tmp_path / "between")
        own = settings(init=tmp_path / "between", init_is_public=True)
        record = train_generator(discs(), own, 0, tmp_path / "last").record
        assert [one.public for one in record.ancestors] == [False, True]
        assert "24 patients which the gate does not hold" in lineage_reasons(record, discs())[0]

    def test_patches_that_the_gate_holds_may_be_begun_from(
        self, discs: Make, settings: Chosen, tmp_path: Path
    ) -> None:
        train_generator(discs(), settings(), 5, tmp_path / "earlier")
        own = settings(init=tmp_path / "earlier")
        record = train_generator(discs(), own, 0, tmp_path / "new").record
        assert lineage_reasons(record, discs()) == []
        of_others = lineage_reasons(record, discs(low=0))
        assert len(of_others) == 2  # its own patches, and those of the earlier one


def test_the_path_starts_from_the_pipeline_file(tmp_path: Path, earlier: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: study\nsources: [{kind: images, path: x, label: cyst, pattern: '(?P<patient>.*)'}]\n"
        "generator: {window: [0, 1], init: earlier}\n"
    )
    config = load_pipeline(file)
    assert config.generator.init == earlier
    digest = json.loads((earlier / "config.json").read_text())["record"]["weights_digest"]
    assert config.resolved()["generator"]["init"] == digest
    assert str(tmp_path) not in str(config.resolved())
    (earlier / "config.json").unlink()
    with pytest.raises(SettingsError, match=r"generator\.init"):
        config.resolved()
