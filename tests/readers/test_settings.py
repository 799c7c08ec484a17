import re

import pytest
from pydantic import TypeAdapter, ValidationError

from medaug.readers.settings import DicomSource, ImagesSource, SourceSettings, VolumesSource

SOURCE = TypeAdapter(SourceSettings)
MASKS = {"kind": "mask-series", "path": "x"}


class TestSettings:
    def test_defaults(self):
        source = SOURCE.validate_python({"kind": "dicom"})
        assert isinstance(source, DicomSource)
        assert source.patient.attribute == "PatientID"
        assert source.path == "."

    def test_survive_a_round_through_json(self):
        for source in (
            {"kind": "dicom", "path": "a/b", "lesions": [{**MASKS, "label": "y"}]},
            {"kind": "volumes", "image": "(?P<patient>a)", "labels": "(?P<patient>b)"},
            {"kind": "images", "pattern": "(?P<label>a)(?P<patient>b)", "labels": {"1": "x"}},
        ):
            read = SOURCE.validate_python(source)
            assert SOURCE.validate_json(SOURCE.dump_json(read)) == read

    @pytest.mark.parametrize(
        ("keys", "texts"), [((True, False), ("true", "false")), ((0, 1), ("0", "1"))]
    )
    def test_keys_that_yaml_reads_as_numbers_or_truth(self, keys, texts):
        pattern = "(?P<label>a)(?P<patient>b)"
        source = {"kind": "images", "pattern": pattern, "labels": dict.fromkeys(keys, "x")}
        assert tuple(ImagesSource.model_validate(source).labels) == texts

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ({"kind": "dicom", "path": "/etc"}, "below the data root"),
            ({"kind": "dicom", "path": "a/../../b"}, "below the data root"),
            ({"kind": "dicom", "patient": {}}, "exactly one of attribute, path, folder and table"),
            (
                {"kind": "dicom", "patient": {"attribute": "PatientID", "folder": "source"}},
                "exactly one of",
            ),
            ({"kind": "dicom", "patient": {"path": "a+"}}, "needs a group (?P<patient>...)"),
            ({"kind": "dicom", "lesions": [MASKS]}, "needs a group (?P<label>...)"),
            (
                {"kind": "dicom", "lesions": [{"kind": "seg", "label_from": "segment-label"}]},
                "a Segment Label is free text",
            ),
            (
                {"kind": "volumes", "image": "a", "labels": "(?P<patient>b)"},
                "needs a group (?P<patient>...)",
            ),
            ({"kind": "volumes", "image": "(", "labels": "b"}, "regular expression"),
            ({"kind": "images", "patient_identity": "none"}, "exactly one of label, table"),
            (
                {"kind": "images", "label": "x", "pattern": "(?P<label>a)(?P<patient>b)"},
                "exactly one of label, table",
            ),
            ({"kind": "images", "label": "x"}, "needs a group (?P<patient>...)"),
            (
                {
                    "kind": "images",
                    "patient_identity": "none",
                    "table": {"files": ["x"], "path_column": 0, "label_column": "y"},
                },
                "both as numbers or both as names",
            ),
            ({"kind": "dicom", "modalty": ["CT"]}, "Extra inputs are not permitted"),
            ({"kind": "nrrd"}, "'dicom', 'volumes', 'msd', 'images'"),
        ],
    )
    def test_a_fault_is_named(self, source, sentence):
        with pytest.raises(ValidationError, match=re.escape(sentence)):
            SOURCE.validate_python(source)

    def test_are_frozen(self):
        source = VolumesSource.model_validate(
            {"kind": "volumes", "image": "(?P<patient>a)", "labels": "(?P<patient>b)"}
        )
        with pytest.raises(ValidationError):
            source.path = "elsewhere"
