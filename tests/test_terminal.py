"""What `medaug inspect` prints: every table within the width, every figure where it belongs."""

from typing import Any

import pytest

from medaug.terminal import show_inventory

CASE = {
    "case": "c", "source": "dicom", "modality": "CT", "unit": "HU", "shape": [512, 512, 119],
    "spacing_mm": [0.743, 0.743, 1.6], "patient": "a" * 32, "files": 119, "maybe_text": False,
}  # fmt: skip
LESION = {
    "label": "tumour", "voxels": 96961, "volume_mm3": 85640.5, "tracking_uid": "2.25.1",
    "diameter_mm": 65.72, "mean": None,
}  # fmt: skip


def document(**given: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "patients": 1,
        "patients_known": True,
        "patient_rules": [
            {"source": ".", "rule": "the path", "patients": 1, "without": 2, "remarks": ["look"]}
        ],
        "files": {"seen": 130, "used": 119},
        "classes": {"tumour": {"lesions": 1, "patients": 1}},
        "cases": [{**CASE, "lesions": [LESION]}],
        "refused": [],
        "conflicts": [],
        "notes": [],
    }
    return base | given


def shown(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    show_inventory(given)
    return capsys.readouterr().out


def test_patients_come_first_with_their_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(document(), capsys).splitlines()
    assert lines[:3] == [
        "1 series of 1 patient(s); 119 of 130 files used",
        "Patients: 1, told apart by the path; 2 file(s) name nobody and are not used",
        "Note: look",
    ]


def test_a_column_that_nothing_fills_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "mean" not in shown(document(), capsys)
    case = {**CASE, "lesions": [{**LESION, "mean": 71.25}]}
    text = shown(document(cases=[case]), capsys)
    assert "mean" in text
    assert "71.2" in text
    assert "85.64" in text
    assert "65.7" in text


def test_long_paths_fold_and_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(f"folder{number:02d}" for number in range(30))
    refused = [{"files": 7, "path": path, "reason": "a localiser, not a slice of a volume"}]
    text = shown(document(refused=refused), capsys)
    assert max(map(len, text.splitlines())) <= 100
    assert text.replace("\n", "").replace(" ", "").count("folder") == 30


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    refused = [{"files": 1, "path": "[bold]x[/bold]", "reason": "why [not]"}]
    conflicts = [{"kind": "two-parts", "paths": ["[a]", "[b]"], "allowed": False}]
    text = shown(document(refused=refused, conflicts=conflicts, notes=["n [x]"]), capsys)
    for words in ("[bold]x[/bold]", "why [not]", "[a]", "[b]", "Note: n [x]"):
        assert words in text
