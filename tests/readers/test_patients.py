"""Whose a file is: every rule, and what is said where a rule makes too few patients or too many."""

import pydicom
import pytest
from pydantic import TypeAdapter, ValidationError
from pydicom.uid import generate_uid

from medaug.errors import ReaderError
from medaug.readers.rules import PatientRule
from medaug.readers.settings import SourceSettings
from medaug.readers.source import scan

SOURCE = TypeAdapter(SourceSettings)


def read(root, site_key, **given):
    given = {"kind": "dicom", "lesions": [{"kind": "seg"}], **given}
    return scan([SOURCE.validate_python(given)], root, site_key)


def study(root, write, seed, **given):
    paths = write.series(root / "ct", write.ct(seed=seed), **given)
    write.seg(root / "seg.dcm", paths, {"Cyst": write.blob()})
    return pydicom.dcmread(paths[0]).SeriesInstanceUID


@pytest.fixture
def three(tmp_path, write):
    """Three studies without Patient ID: series UIDs by folder."""
    return {name: study(tmp_path / name, write, seed, patient="")
            for seed, name in enumerate("abc")}  # fmt: skip


class TestATable:
    def test_of_folders(self, three, tmp_path, site_key):
        assert set(three) == {"a", "b", "c"}
        (tmp_path / "who.csv").write_text("a,P1\nb,P2\nc,P1\nc/ct,P2\nc/seg.dcm,P2\n")
        source = read(tmp_path, site_key, patient={"table": {"file": "who.csv"}})
        a, b, c = (case.patient for case in source.cases())
        assert a != b == c, "the nearest folder counts"
        (found,) = source.inventory.patients
        assert (found.rule, found.patients, found.without) == ("the table who.csv", 2, 0)
        assert source.inventory.files_used == source.inventory.files_seen

    def test_of_series(self, three, tmp_path, site_key):
        lines = [f"{three['a']};P1", f"{three['b']};P1"]
        (tmp_path / "who.csv").write_text("uid;patient\n" + "\n".join(lines))
        table = {"file": "who.csv", "key": "series", "key_column": "uid",
                 "patient_column": "patient"}  # fmt: skip
        source = read(tmp_path, site_key, patient={"table": table})
        assert source.inventory.document()["patients"] == 1
        assert len(source) == 2
        (found,) = source.inventory.patients
        assert found.without == 8
        reasons = {entry.path: entry.reason for entry in source.inventory.refused}
        assert reasons["c/ct"] == (
            "its patient is not known: the patient table names not its series"
        )

    def test_of_a_part_of_the_path(self, three, tmp_path, site_key):
        assert len(three) == 3
        (tmp_path / "who.csv").write_text("a\tP1\nb\tP2\nc\tP3\n")
        table = {"file": "who.csv", "pattern": "^(?P<key>[a-c])/"}
        source = read(tmp_path, site_key, patient={"table": table})
        assert source.inventory.document()["patients"] == 3

    def test_tells_all_its_faults_at_once_and_no_patient(self, three, tmp_path, site_key):
        assert len(three) == 3
        (tmp_path / "who.csv").write_text("a,Doe\nb,\n,Roe\nd,Poe\na,Moe\n../x,Foe\n")
        with pytest.raises(ReaderError) as caught:
            read(tmp_path, site_key, patient={"table": {"file": "who.csv"}})
        assert [(one.where, one.came) for one in caught.value.faults] == [
            ("who.csv, line 2", "no patient"),
            ("who.csv, line 3", "no key"),
            ("who.csv, line 4", "names d, which is not there"),
            ("who.csv, line 5", "gives the key of its line a second, different patient"),
            ("who.csv, line 6", "names ../x, which is not there"),
        ]
        assert "oe" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "table", "says"),
        [
            (None, {}, "no such table"),
            ("", {}, "an empty table"),
            ("x,y\na,P\n", {"key_column": "uid", "patient_column": "y"}, "has no column uid"),
        ],
    )
    def test_that_cannot_be_read(self, text, table, says, tmp_path, site_key, write):
        study(tmp_path / "a", write, 0)
        if text is not None:
            (tmp_path / "who.csv").write_text(text)
        with pytest.raises(ReaderError, match=says):
            read(tmp_path, site_key, patient={"table": {"file": "who.csv", **table}})

    def test_of_pictures(self, tmp_path, site_key, write):
        for number in range(3):
            grey = (write.ct((9, 9, 1), number)[..., 0] % 255).astype("uint8")
            write.picture(tmp_path / "x" / f"{number}.png", grey)
        (tmp_path / "who.csv").write_text("x/0.png,P1\nx/1.png,P1\n")
        given = {"kind": "images", "label": "x", "patient_table": {"file": "who.csv"}}
        source = scan([SOURCE.validate_python(given)], tmp_path, site_key)
        assert source.patients_known
        (found,) = source.inventory.patients
        assert (found.patients, found.without, found.rule) == (1, 1, "the table who.csv")


class TestRules:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"attribute": "PatientID", "folder": "source"},
            {"attribute": "PatientID", "name": "x"},
            {"table": {"file": "t", "key_column": 0, "patient_column": "p"}},
            {"table": {"file": "t", "key": "series", "pattern": "(?P<key>.)"}},
            {"table": {"file": "t", "pattern": "."}},
        ],
    )
    def test_that_contradict_themselves_are_refused(self, given):
        with pytest.raises(ValidationError):
            PatientRule.model_validate(given)

    def test_a_whole_folder_under_a_name_survives_its_renaming(self, tmp_path, site_key, write):
        study(tmp_path / "data", write, 0)
        keys = []
        for name in ("data", "renamed"):
            if name == "renamed":
                (tmp_path / "data").rename(tmp_path / name)
            for rule in ({"folder": "source"}, {"folder": "source", "name": "case 17"}):
                (case,) = read(tmp_path / name, site_key, patient=rule).cases()
                keys.append(case.patient)
        assert keys[1] == keys[3]
        assert keys[0] != keys[2]


def remarks(root, site_key, **given):
    (found,) = read(root, site_key, **given).inventory.patients
    return " ".join(found.remarks)


class TestDoubts:
    """`inspect` says where a rule makes too few or too many patients; it shows no identifier."""

    @pytest.mark.parametrize(
        ("ids", "says"),
        [
            (["4711", "4712"], ""),
            (["4711", "4711"], "one PatientID covers all 2 studies"),
            (["ANON", "4712"], "holds a filler, as anonymised sets do, in 1 study"),
            (["0000", "0000"], "holds a filler, as anonymised sets do, in 2 study"),
            (["7", "8"], ""),
        ],
    )
    def test_of_patient_ids(self, ids, says, tmp_path, site_key, write):
        for seed, patient in enumerate(ids):
            study(tmp_path / str(seed), write, seed, patient=patient)
        said = remarks(tmp_path, site_key)
        assert says in said
        assert bool(says) == bool(said)
        assert not any(one in said for one in ids if len(one) > 2)

    def test_a_rule_of_examinations(self, tmp_path, site_key, write):
        study(tmp_path, write, 0)
        said = remarks(tmp_path, site_key, patient={"attribute": "StudyInstanceUID"})
        assert "StudyInstanceUID tells examinations apart, not people" in said

    def test_a_study_of_two_patients(self, tmp_path, site_key, write):
        uid = generate_uid()
        for seed, patient in enumerate("AB"):
            study(tmp_path / str(seed), write, seed, patient=f"P{patient}", study=uid)
        assert remarks(tmp_path, site_key).startswith("1 study/studies hold images of more than")

    def test_folders_against_patient_ids(self, tmp_path, site_key, write):
        for seed, (folder, patient) in enumerate([("x", "P1"), ("x", "P2"), ("y", "P2")]):
            study(tmp_path / folder / str(seed), write, seed, patient=patient)
        said = remarks(tmp_path, site_key, patient={"path": "^(?P<patient>[xy])/"})
        assert "1 patient(s) by this rule have images of several Patient IDs" in said
        assert "1 Patient ID(s) stand under several patients" in said
