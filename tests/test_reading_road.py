"""Whose patches a reader study shows: never of a patient whom the generator saw."""

import json
from pathlib import Path

import numpy as np
import pytest

from medaug import cli
from medaug.config import load_pipeline
from medaug.domain import (
    Candidates,
    CheckResult,
    LesionPatch,
    PatchLocation,
    PatientKey,
    Release,
    ReleaseDecision,
    ReleasePolicy,
    Rescale,
    Unit,
    Window,
)
from medaug.errors import LeakageError, SettingsError
from medaug.export.write import write_release
from medaug.patching.store import PatchStoreWriter
from medaug.road.reading import make_study

WINDOW = Window(-100, 200)
EACH = 60


def token(number: int) -> str:
    return f"{number:032x}"


def grey(number: int) -> float:
    """What the patch of a patient is filled with: in HU, a different grey for each."""
    return -100 + 1.2 * number


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 120 patients: the first 60 trained, 20 tuned, 40 test."""
    folder = tmp_path / "run"
    with PatchStoreWriter(folder / "patches" / "patches.h5") as store:
        for number in range(120):
            place = PatchLocation(f"case{number}", f"2.25.{number}", 0, (0.0, 0.0, 0.0), 1.0)
            image = np.full((1, 8, 8), grey(number), np.float32)
            patient = PatientKey(token(number))
            store.append(LesionPatch(image, None, "cyst", patient, place, Unit.HOUNSFIELD, "CT"))
    ends = {"training": (0, 60), "tuning": (60, 80), "test": (80, 120)}
    parts = {part: {"patients": [token(n) for n in range(*end)]} for part, end in ends.items()}
    write(folder / "split.json", {"parts": parts})
    write(folder / "run.json", {})
    record = {"patches_digest": "", "weights_digest": "", "seed": 0, "patients_known": True}
    trained = {"record": record | {"patients": parts["training"]["patients"]}}
    write(folder / "generator" / "config.json", trained)
    pixels = np.broadcast_to(np.arange(1000, 1000 + EACH)[:, None, None, None], (EACH, 1, 8, 8))
    candidates = Candidates(
        pixels=pixels.astype(np.int16),
        labels=np.zeros(EACH, np.int64),
        classes=("cyst",),
        rescale=Rescale(1.0, 0.0),
        unit=Unit.HOUNSFIELD,
        modality="CT",
        mm_per_pixel=1.0,
        seeds=np.arange(EACH),
    )
    decision = ReleaseDecision(
        policy=ReleasePolicy(per_class=EACH, checks=("format",)),
        pixels_digest=candidates.digest,
        results=(CheckResult("format", True, 0, 0, 0, "All are right."),),
        drawn={"cyst": EACH},
        accepted={"cyst": EACH},
        statements=(),
    )
    release = Release.of(candidates, decision, "0" * 64)
    settings = load_pipeline("phantom", ["export.formats=[npz]"]).export
    write_release(release, folder / "release", settings, name="a", seed=0, window=WINDOW)
    return folder


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def made(source: Path, place: Path, real: Path | None = None) -> tuple[set[int], str]:
    """Numbers of the real patients shown, and what the key says of them."""
    deck = make_study(source, place / "readers", place / "key.json", 3, 100, real)
    shown = deck.shown[~deck.synthetic][:, 0, 0, 0]
    greys = np.rint((WINDOW.to_signed(np.rint([grey(n) for n in range(120)])) + 1) * 127.5)
    said = json.loads((place / "key.json").read_text())["real patients"]
    return {int(np.flatnonzero(greys == value)[0]) for value in shown}, said


def test_the_test_part_of_the_run(run: Path, tmp_path: Path) -> None:
    shown, said = made(run, tmp_path)
    assert 5 < len(shown) <= 40
    assert min(shown) >= 80
    assert "did not see them" in said


def test_a_patient_whom_the_generator_saw_is_refused(run: Path, tmp_path: Path) -> None:
    path = run / "generator" / "config.json"
    document = json.loads(path.read_text())
    document["record"]["patients"].append(token(117))
    write(path, document)
    with pytest.raises(LeakageError):
        made(run, tmp_path)
    assert not (tmp_path / "readers").exists()
    (run / "split.json").unlink()
    with pytest.raises(LeakageError):
        made(run, tmp_path)


def test_a_release_and_the_patches_of_another_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--real"):
        made(run / "release", tmp_path)
    with pytest.raises(SettingsError) as refused:
        made(tmp_path, tmp_path)
    assert len(refused.value.faults) == 2
    shown, said = made(run / "release", tmp_path, run)
    assert min(shown) >= 80
    assert "is not known here" in said


def test_from_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made, answered and scored; the key lies beside the folder unless it is asked elsewhere."""

    def said(*command: object) -> str:
        words = ["reader-study", *map(str, command)]
        assert cli._guarded(lambda: cli.app(words, standalone_mode=False)) == 0
        return capsys.readouterr().out

    out, key = tmp_path / "readers", tmp_path / "readers-key.json"
    assert str(key) in said("make", run, "--out", out)
    document = json.loads(key.read_text())
    answers = {number: item["kind"] for number, item in document["items"].items()}
    sheet = {"format": "medaug reader study answers 1", "study": document["study"]}
    write(tmp_path / "a.json", sheet | {"reader": "R1", "answers": answers})
    wrong = {number: "real" if kind != "real" else "synthetic" for number, kind in answers.items()}
    write(tmp_path / "b.json", sheet | {"reader": "R2", "answers": wrong})
    told = said("score", key, tmp_path / "a.json", tmp_path / "b.json")
    assert "R1                 40 of   40 right  accuracy 1.000 (0.912 to 1.000)" in told
    assert "all 2 readers: mean accuracy 0.500" in told
    found = json.loads(said("score", key, tmp_path / "a.json", "--json"))
    assert found["readers"][0]["right"] == 40
