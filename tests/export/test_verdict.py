"""The verdict comes after the release, and its papers say it as if it had been there before."""

import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path

import jsonschema
import pytest

from medaug.domain import Window
from medaug.errors import DisclosureError, ReaderError
from medaug.export import verdict as module
from medaug.export.datasheet import datasheet
from medaug.export.entries import Verdict, verdict_of
from medaug.export.manifest import SCHEMA, describe, read_manifest
from medaug.export.settings import ExportSettings
from medaug.export.signing import make_keys
from medaug.export.verdict import state_verdict
from medaug.export.verify import verify_release
from medaug.export.write import write_release
from medaug.forbidden import forbidden_words
from medaug.privacy.accounting import cost_of, rounds_for

WINDOW = Window(-100, 200)
EVALUATION = {
    "test": {"patients": 22, "patches": 61, "patients_known": True},
    "seeds": [0, 1, 2],
    "verdict": {"word": "no evidence", "sentence": "No evidence that synthetic patches help."},
    "comparisons": [
        {
            "classifier": "resnet-10-narrow",
            "arm": "real+classical+gan",
            "baseline": "real+classical",
            "metric": "macro_auc",
            "main": main,
            "difference": {"value": 0.012345678, "low": -0.0312345, "high": 0.0512345},
            "p_holm": 0.412345,
            "smallest_difference": 0.0612345,
        }
        for main in (True, False)
    ],
    "caveats": ["No external test set was scored."],
}


@pytest.fixture(scope="module")
def pristine(make_release, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verdict") / "release"
    release = make_release(per_class=1, size=(8, 8))
    write_release(release, folder, ExportSettings(), name="trial", seed=1, window=WINDOW)
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "release"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class TestStated:
    def test_the_papers_say_it_and_the_pictures_stay(self, pristine, folder) -> None:
        state_verdict(folder, verdict_of(EVALUATION))
        found = verify_release(folder)
        assert found.ok, found.problems
        assert found.facts["verdict"] == EVALUATION["verdict"]["sentence"]
        told = read_manifest(folder).evaluation
        assert told is not None
        assert [each.difference for each in told.differences] == [(0.012, -0.031, 0.051)]
        assert (told.word, told.patients, told.seeds) == ("no evidence", 22, 3)
        sheet = " ".join((folder / "DATASHEET.md").read_text().split())
        for words in ("No evidence that synthetic", "0.012 (-0.031 to 0.051)", "No external test"):
            assert words in sheet
        assert "this sheet does not show it" not in sheet
        before, after = contents(pristine), contents(folder)
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {"release.json", "DATASHEET.md", "SHA256SUMS"}

    def test_same_bytes_again_and_the_first_ones_without(self, pristine, folder) -> None:
        state_verdict(folder, verdict_of(EVALUATION))
        once = contents(folder)
        state_verdict(folder, None)
        assert contents(folder) == contents(pristine)
        state_verdict(folder, verdict_of(json.loads(json.dumps(EVALUATION))))
        assert contents(folder) == once
        assert [path.name for path in folder.parent.iterdir()] == ["release"]

    def test_it_is_signed_again(self, folder, tmp_path) -> None:
        make_keys(tmp_path / "site.key")
        state_verdict(folder, verdict_of(EVALUATION), tmp_path / "site.key")
        assert verify_release(folder, tmp_path / "site.pub").ok

    def test_where_a_disk_knows_no_links(self, folder, tmp_path, monkeypatch) -> None:
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        state_verdict(folder, verdict_of(EVALUATION))

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", no_links)
        state_verdict(other, verdict_of(EVALUATION))
        assert contents(other) == contents(folder)

    def test_a_full_disk_leaves_the_release_as_it_was(
        self, pristine, folder, tmp_path, monkeypatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, "write_papers", full)
        with pytest.raises(OSError, match="No space"):
            state_verdict(folder, verdict_of(EVALUATION))
        assert contents(tmp_path / "release") == contents(pristine)
        assert [path.name for path in tmp_path.iterdir()] == ["release"]


class TestNotStated:
    def test_on_a_release_that_somebody_changed(self, folder) -> None:
        (folder / "png/table.csv").write_text("")
        before = contents(folder)
        with pytest.raises(ReaderError, match=r"table\.csv was changed"):
            state_verdict(folder, verdict_of(EVALUATION))
        assert contents(folder) == before

    def test_what_nobody_may_say(self, folder) -> None:
        told = EVALUATION | {"caveats": ["These data are safe."]}
        with pytest.raises(DisclosureError, match="safe"):
            state_verdict(folder, verdict_of(told))
        assert verify_release(folder).ok

    def test_with_differential_privacy(self, make_release, tmp_path) -> None:
        """Classifiers learn from patients without noise: a word of theirs would break the bound."""
        release = make_release(per_class=1, size=(8, 8))
        policy = dataclasses.replace(release.decision.policy, mode="dp-vote")
        cost = cost_of(rounds_for(3, 1e-5, 3), 1e-5, "dp-vote")
        decision = dataclasses.replace(release.decision, policy=policy, cost=cost)
        release = dataclasses.replace(release, decision=decision)
        folder = tmp_path / "r"
        settings = ExportSettings(formats=("npz",))
        write_release(
            release, folder, settings, name="a", seed=0, window=WINDOW, data_digest="c" * 64
        )
        manifest = read_manifest(folder)
        assert manifest.data_digest is None
        assert [(each.by, each.noise, each.rounds) for each in manifest.events] == [
            ("training", "Gaussian", 3)
        ]
        with pytest.raises(DisclosureError, match="stays inside"):
            state_verdict(folder, verdict_of(EVALUATION))
        document = manifest.model_dump(mode="json") | {"data_digest": "c" * 64}
        (folder / "release.json").write_text(json.dumps(document))
        sums = folder / "SHA256SUMS"
        from medaug.export.sums import digests_of, sums_text

        sums.write_text(sums_text(digests_of(folder)))
        assert any("no digest of data" in each for each in verify_release(folder).problems)


class TestDocument:
    """``release.json`` fits the schema that is shipped, and says how patients' data were read."""

    @pytest.fixture
    def document(self, make_release) -> dict[str, object]:
        manifest = describe(make_release(), ExportSettings(), "trial", WINDOW, None, (3, "d" * 64))
        manifest = manifest.model_copy(update={"evaluation": verdict_of(EVALUATION)})
        return manifest.model_dump(mode="json")

    def test_another_validator_agrees(self, document) -> None:
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        validator = jsonschema.Draft202012Validator
        validator.check_schema(schema)
        validator(schema).validate(document)
        for name in document:
            with pytest.raises(jsonschema.ValidationError):
                validator(schema).validate({k: v for k, v in document.items() if k != name})
        for change in ({"patients": []}, {"evaluation": "helps"}, {"pixels_digest": "0"}):
            with pytest.raises(jsonschema.ValidationError):
                validator(schema).validate(document | change)

    def test_what_read_patients_data_is_told(self, document) -> None:
        assert [event["by"] for event in document["events"]] == ["training", "check copy"]
        assert {event["noise"] for event in document["events"]} == {"none"}
        assert document["versions"]["numpy"]

    def test_every_figure_of_the_sheet_stands_in_the_document(self, make_release) -> None:
        """But those of the template itself, which are the same anywhere: a year, 80 %."""

        def numbers(text: str) -> set[float]:
            return {float(n) for n in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)", text)}

        manifest = describe(make_release(), ExportSettings(), "trial", WINDOW)
        manifest = manifest.model_copy(update={"evaluation": verdict_of(EVALUATION)})
        template = SCHEMA.with_name("datasheet.md.j2").read_text(encoding="utf-8")
        total = float(sum(entry.samples for entry in manifest.classes))
        known = numbers(manifest.model_dump_json()) | numbers(template) | {total}
        known.add(float(len(manifest.classes)))
        sheet = datasheet(manifest)
        assert numbers(sheet) - known == set()
        assert not forbidden_words(sheet)

    def test_a_verdict_of_unknown_patients_counts_none(self, make_release) -> None:
        test = EVALUATION["test"] | {"patients_known": False}
        told = verdict_of(EVALUATION | {"test": test})
        assert isinstance(told, Verdict)
        assert told.patients is None
        manifest = describe(make_release(), ExportSettings(), "trial", WINDOW)
        sheets = [
            " ".join(datasheet(manifest.model_copy(update={"evaluation": each})).split())
            for each in (told, verdict_of(EVALUATION))
        ]
        assert ["nobody knows whose they are" in sheet for sheet in sheets] == [True, False]
        assert ["neither the generator nor" in sheet for sheet in sheets] == [False, True]
