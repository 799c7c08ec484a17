"""What a release says of itself."""

import pytest

from medaug.forbidden import forbidden_words
from medaug.privacy import claims


@pytest.mark.parametrize(
    "text",
    [
        "fully anonymous",
        "ANONYMISED data",
        "anonymization",
        "de-identified",
        "deidentified",
        "GDPR-compliant",
        "HIPAA compliance",
        "no re-identification possible",
        "re-identification is impossible",
        "safe to share",
        "it passed DCR",
    ],
)
def test_forbidden(text: str) -> None:
    assert len(forbidden_words(text)) == 1


@pytest.mark.parametrize("text", ["safetensors", "patient tokens", "a re-identification attack"])
def test_allowed(text: str) -> None:
    assert forbidden_words(text) == []


@pytest.mark.parametrize("copies", [0, 7])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_statements_say_nothing_forbidden(known: bool, copies: int, masks: bool) -> None:
    phrase = claims.calibration_phrase(patients=22, bound=0.1273, wanted=0.05, patients_known=known)
    statements = claims.release_statements(
        samples=200,
        calibration=phrase,
        duplicate_limit=0.98,
        highest_duplicate=0.9712,
        accepted={"cyst": 100, "rim": 100},
        drawn={"cyst": 104, "rim": 131},
        copies=copies,
        patients_known=known,
        masks=masks,
    )
    text = " ".join(statements)
    assert forbidden_words(text) == []
    assert "at most 12.8 %" in text
    assert "(95 % confidence, 22 " in text
    assert "No differential privacy" in text
    assert ("Patch-level only" in text) != known
    assert ("masks were not compared" in text) == masks
    assert "patient-level" not in text
    assert ("real patients" in phrase) == known
    assert ("withheld by the copy check" in text) == bool(copies)
    assert ("closer to a training patient" in text) == (known and copies > 0)


@pytest.mark.parametrize(("bound", "said"), [(0.0499, "at most 5 %"), (0.0501, "at most 5.1 %")])
def test_a_bound_is_rounded_up(bound: float, said: str) -> None:
    phrase = claims.calibration_phrase(patients=60, bound=bound, wanted=0.05, patients_known=True)
    assert said in phrase
    assert ("was wanted" in phrase) == (bound > 0.05)
