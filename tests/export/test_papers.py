"""What a release says of itself: schema, data sheet, and the words it never uses."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from medaug.domain import CheckResult, Window
from medaug.errors import DisclosureError, ReaderError
from medaug.export.datasheet import datasheet
from medaug.export.manifest import SCHEMA, Manifest, describe, read_manifest, schema_text
from medaug.export.settings import ExportSettings
from medaug.export.write import write_release
from medaug.forbidden import forbidden_words
from medaug.privacy.accounting import cost_of, rounds_for

WINDOW = Window(-100, 200)
PAGES = Path(__file__).parents[2] / "docs"

# Of the design's list of claims that nothing here supports; kept apart from the code's own.
NEVER = [
    "anonymous",
    "anonymised",
    "anonymized",
    "anonymisation",
    "de-identified",
    "deidentified",
    "de-identification",
    "GDPR-compliant",
    "HIPAA-compliant",
    "HIPAA compliant",
    "compliant with the GDPR",
    "no re-identification possible",
    "re-identification is impossible",
    "cannot be re-identified",
    "non-identifiable",
    "safe",
    "passed DCR",
]


@pytest.fixture
def manifest(make_release) -> Manifest:
    return describe(make_release(), ExportSettings(), "trial", WINDOW)


class TestManifest:
    """``release.json`` says what was reviewed, and names nothing of the inside."""

    def test_schema_file_is_that_of_the_model(self) -> None:
        assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
            "write schema_text() to medaug/export/release.schema.json again"
        )

    def test_figures_are_those_of_the_decision(self, make_release, manifest) -> None:
        release = make_release()
        for entry in manifest.classes:
            assert entry.samples == release.per_class()[entry.name]
            assert entry.drawn == release.decision.drawn[entry.name]
            assert entry.accepted == release.decision.accepted[entry.name]
        assert manifest.pixels_digest == release.digest
        assert manifest.generator_digest == release.generator_digest
        assert manifest.statements == release.decision.statements
        assert manifest.policy == release.decision.policy
        assert [(check.value, check.limit) for check in manifest.checks] == [
            (0, 0),
            (3.123, 4.568),
            (0.5, 0.98),
        ]

    def test_holds_only_these_keys(self, manifest) -> None:
        def keys(node: object) -> set[str]:
            if isinstance(node, dict):
                return set(node) | {key for value in node.values() for key in keys(value)}
            if isinstance(node, list):
                return {key for value in node for key in keys(value)}
            return set()

        inside = r"seed|latent|token|path|host|user|time|date|patient|site|case|source"
        found = keys(manifest.model_dump(mode="json"))
        limits = ["min_calibration_patients", "min_patients_per_class", "per_patient"]
        assert sorted(key for key in found if re.search(inside, key)) == limits

    def test_reads_back_the_same(self, make_release, manifest, tmp_path) -> None:
        write_release(
            make_release(), tmp_path / "r", ExportSettings(), name="trial", seed=0, window=WINDOW
        )
        assert read_manifest(tmp_path / "r") == manifest

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            (lambda d: d.update(seed=7), "seed"),
            (lambda d: d.pop("statements"), "statements"),
            (lambda d: d["policy"].update(seed=7), "seed"),
            (lambda d: d["policy"].pop("tries"), "fields"),
            (lambda d: d["checks"][0].update(value="NaN"), "checks.0.value"),
            (lambda d: d["image"].update(unit=3), "image.unit"),
            (lambda d: d.update(pixels_digest="00"), "pixels_digest"),
            (lambda d: d["classes"][0].update(samples=-1), "classes.0.samples"),
        ],
    )
    def test_a_field_that_does_not_fit_is_named(self, manifest, tmp_path, change, where) -> None:
        document = manifest.model_dump(mode="json")
        change(document)
        (tmp_path / "release.json").write_text(json.dumps(document))
        with pytest.raises(ReaderError, match=re.escape(where)):
            read_manifest(tmp_path)

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
    def test_no_json_object_at_all(self, tmp_path, text) -> None:
        (tmp_path / "release.json").write_bytes(text)
        with pytest.raises(ReaderError, match=r"release\.json"):
            read_manifest(tmp_path)


class TestDatasheet:
    """In the order of "Datasheets for Datasets", from the manifest's figures alone."""

    def test_order(self, manifest) -> None:
        assert re.findall(r"^## (.+)$", datasheet(manifest), re.MULTILINE) == [
            "Motivation",
            "Composition",
            "Collection process",
            "Preprocessing, cleaning, labelling",
            "Uses",
            "Distribution",
            "Maintenance",
            "Limits",
            "Questions for the data-protection officer",
        ]

    def test_says_statements_limits_and_open_questions(self, manifest) -> None:
        text = datasheet(manifest)
        for sentence in (
            *manifest.statements,
            "no differential-privacy guarantee",
            "EDPB Opinion 28/2024",
            "WP216",
            "Singling out",
            "Linkability",
            "Inference",
            "SYNTHETIC - NOT FOR DIAGNOSTIC USE",
        ):
            assert sentence in " ".join(text.split())

    def test_patch_level_only_is_said(self, make_release, manifest) -> None:
        other = describe(make_release(patch_level_only=True), ExportSettings(), "trial", WINDOW)
        assert "No statement about patients" in " ".join(datasheet(other).split())
        assert "No statement about patients" not in " ".join(datasheet(manifest).split())

    def test_where_no_copy_check_ran_singling_out_is_not_assessed(self, make_release) -> None:
        release = make_release()
        policy = dataclasses.replace(release.decision.policy, checks=("format",))
        results = release.decision.results[:1]
        decision = dataclasses.replace(release.decision, policy=policy, results=results)
        other = dataclasses.replace(release, decision=decision)
        text = datasheet(describe(other, ExportSettings(), "trial", WINDOW))
        assert "picked out? Not assessed." in text

    def test_an_audit_bears_on_linkability(self, make_release, manifest) -> None:
        assert "be joined? Not audited." in datasheet(manifest)
        release = make_release()
        results = (*release.decision.results, CheckResult("audit", True, 0.4, 0.01, 0, "p = 0.4."))
        policy = dataclasses.replace(
            release.decision.policy, checks=tuple(check.name for check in results)
        )
        decision = dataclasses.replace(release.decision, policy=policy, results=results)
        other = dataclasses.replace(release, decision=decision)
        text = datasheet(describe(other, ExportSettings(), "trial", WINDOW))
        assert "be joined? The attacks above bear on it." in text
        assert "- **audit**: worst value 0.4, limit 0.01" in text

    def test_a_guarantee_comes_with_all_its_terms(self, manifest) -> None:
        cost = cost_of(rounds_for(3, 1e-5, 3), 1e-5, "dp-vote")
        text = datasheet(manifest.model_copy(update={"cost": cost, "mode": "dp-vote"}))
        flat = " ".join(text.split())
        assert "differential privacy, per patient; add or remove one patient" in flat
        assert f"**ε** {cost.epsilon:g} at **δ** 1e-05; **μ** {cost.mu:g}" in flat
        assert f"mechanism dp-vote: 3 round(s), noise {cost.sigma:g}" in flat
        for excluded in cost.excluded:
            assert f"- not covered: {excluded}" in text
        assert "No check looked for copies of patients' patches" in flat
        assert "Patients' data were reached through votes with Gaussian noise alone" in flat
        assert "no differential-privacy guarantee" not in flat
        assert "What it costs in privacy" not in datasheet(manifest)

    @pytest.mark.parametrize(
        ("slices", "says"), [(5, "volume of 5 slices"), (0, "is one slice of")]
    )
    def test_volumes_and_slices(self, make_release, slices, says) -> None:
        text = datasheet(describe(make_release(slices=slices), ExportSettings(), "trial", WINDOW))
        assert says in " ".join(text.split())
        assert ("`_s` and the table's column `slice`" in text) == bool(slices)

    def test_adjacent_slices(self, make_release) -> None:
        text = datasheet(describe(make_release(channels=3), ExportSettings(), "trial", WINDOW))
        assert "3 adjacent slices of 20 x 16 pixels, its lesion's slice in the middle" in text

    def test_what_the_settings_say_of_it(self, make_release) -> None:
        said = ExportSettings(title="Drawn cysts", description="Of one site.", licence="CC-BY-4.0")
        text = datasheet(describe(make_release(), said, "trial", WINDOW))
        assert text.startswith("# Drawn cysts\n")
        for words in ("Of one site.", "Licence: CC-BY-4.0", "coded 367643001 (SCT, Cyst)"):
            assert words in text
        plain = datasheet(describe(make_release(), ExportSettings(), "trial", WINDOW))
        assert "none was stated" in plain

    def test_says_whether_there_are_masks_and_where(self, make_release, manifest) -> None:
        other = describe(make_release(masks=True), ExportSettings(), "trial", WINDOW)
        text = " ".join(datasheet(other).split())
        assert "each with a lesion mask" in text
        assert "`png-masks/` (255 in the lesion)" in text
        assert "in DICOM, a Segmentation for each sample in `dicom-masks/`" in text
        without = datasheet(manifest)
        assert "none with a mask" in without
        assert "png-masks" not in without
        npz = describe(make_release(masks=True), ExportSettings(formats=("npz",)), "a", WINDOW)
        assert "Segmentation" not in datasheet(npz)

    def test_unknown_spacing_and_other_formats(self, make_release) -> None:
        release = make_release(mm_per_pixel=0.0)
        manifest = describe(release, ExportSettings(formats=("npz",)), "trial", WINDOW)
        assert manifest.image.mm_per_pixel is None
        text = datasheet(manifest)
        assert "of unknown size in mm" in text
        assert "`png/`" not in text
        assert "`dicom/`" not in text


class TestWords:
    """Claims that no check supports stand nowhere in a release."""

    @pytest.mark.parametrize("word", NEVER)
    def test_every_one_is_known_in_any_case(self, word) -> None:
        assert forbidden_words(f"These data are {word}.")
        assert forbidden_words(f"({word.upper()})")

    @pytest.mark.parametrize("text", ["unsafe", "safeguard", "GDPR article 4", "identified"])
    def test_honest_words_are_free(self, text) -> None:
        assert not forbidden_words(text)

    def test_the_papers_hold_none(self, manifest) -> None:
        template, page = SCHEMA.with_name("datasheet.md.j2"), PAGES / "release.md"
        written = [each.read_text(encoding="utf-8") for each in (SCHEMA, template, page)]
        for text in (datasheet(manifest), manifest.model_dump_json(), *written):
            for word in NEVER:
                assert not re.search(rf"\b{word}\b", text, re.IGNORECASE), word

    @pytest.mark.parametrize("word", NEVER)
    @pytest.mark.parametrize("field", ["title", "description", "intended_use", "licence"])
    def test_settings_refuse_them_before_any_work(self, field, word) -> None:
        with pytest.raises(ValidationError, match="never says"):
            ExportSettings(**{field: f"A set of {word} data"})

    def test_a_statement_that_says_more_than_it_may_stops_the_release(
        self, make_release, tmp_path
    ) -> None:
        release = make_release()
        decision = dataclasses.replace(release.decision, statements=("Fully anonymised.",))
        with pytest.raises(DisclosureError, match="anonymised"):
            write_release(
                dataclasses.replace(release, decision=decision),
                tmp_path / "r",
                ExportSettings(),
                name="trial",
                seed=0,
                window=WINDOW,
            )
        assert not list(tmp_path.iterdir())


class TestSettings:
    """A setting that cannot be followed is refused when it is read."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"formats": ()},
            {"formats": ("png",)},
            {"formats": ("npz", "npz")},
            {"formats": ("npz", "jpeg")},
            {"body_part": "liver"},
            {"body_part": "A" * 17},
            {"findings": {"cyst": {"value": "1", "scheme": "SCT"}}},
            {"findings": {"cyst": {"value": "1" * 17, "scheme": "SCT", "meaning": "x"}}},
            {"title": "two\nlines"},
            {"licnece": "CC0"},
        ],
    )
    def test_refused(self, wrong) -> None:
        with pytest.raises(ValidationError):
            ExportSettings(**wrong)
