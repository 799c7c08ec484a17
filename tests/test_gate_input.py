"""What the gate is sure to refuse is refused before a training, and nothing is spent.

On the command line: 2 for input and settings, 3 for the gate. What only the gate itself can see is
in `test_identity_road`.
"""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaug import cli
from medaug.privacy.ledger_chain import Chain
from medaug.readers.identity import load_site_key
from medaug.site import ledger_path, open_ledger

PATIENTS = 58
PIPELINE = r"""
name: pictures
sources:
  - kind: images
    path: .
    pattern: '(?P<label>ring|blob)/(?P<patient>P\d+)\.(png|tif)$'
    modality: OT
patching: {size: 32, mm_per_pixel: null}
cohort: {fractions: [0.42, 0.38, 0.2]}
generator: {preset: small-data, window: [0, 255], device: cpu}
privacy: {per_class: 12}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Pictures, a pipeline file, a key, and a ledger with entries about other patients."""
    for number in range(PATIENTS):
        rng = np.random.default_rng(number)
        for label in ("ring", "blob"):
            path = tmp_path / "pictures" / label / f"P{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(path)
    (tmp_path / "study.yaml").write_text(PIPELINE)
    open_ledger(None, tmp_path / "site.key").train("d" * 64, frozenset({"a" * 32}), "w" * 64)
    return tmp_path


def release(site: Path, *changes: str) -> int:
    command = ["release", "study.yaml", "--data", "pictures", "--out", "run"]
    for change in (f"site_key={site / 'site.key'}", *changes):
        command += ["--set", change]
    command[1], command[3], command[5] = (str(site / command[at]) for at in (1, 3, 5))
    return cli._guarded(lambda: cli.app(command, standalone_mode=False))


def blank_picture(site: Path) -> None:
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(site / "pictures/ring/P000.png")


def one_word_in_the_ledger(site: Path) -> None:
    connection = sqlite3.connect(ledger_path(None, site / "site.key"), isolation_level=None)
    connection.execute("DROP TRIGGER no_update")
    connection.execute("UPDATE entries SET body = replace(body, 'aa', 'ab') WHERE seq = 1")
    connection.close()


def open_key(site: Path) -> None:
    (site / "site.key").chmod(0o644)


def open_ledger_file(site: Path) -> None:
    ledger_path(None, site / "site.key").chmod(0o640)


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "changes", "code", "says"),
    [
        (blank_picture, (), 2, "1 without any contrast, in patches/patches.h5 row"),
        (nothing, ("cohort.fractions=[0.6,0.2,0.2]",), 2, "tuning part to calibrate its limit"),
        (nothing, ("sources.0.patient_identity=none",), 2, "a source names no patients"),
        (nothing, ("export.sop=modality",), 2, "modality, of OT images"),
        (nothing, ("export.sop=modality",), 2, "whose size in mm nobody knows"),
        (open_key, (), 2, "others than the owner may use the site key (mode 0644)"),
        (open_ledger_file, (), 2, "others than the owner may use the ledger (mode 0640)"),
        (one_word_in_the_ledger, (), 3, "does not verify"),
    ],
)
def test_before_a_training(
    site: Path, capfd: pytest.CaptureFixture[str], spoil, changes, code: int, says: str
) -> None:
    spoil(site)
    if "sources.0.patient_identity=none" in changes:
        text = PIPELINE.replace(r"(?P<patient>P\d+)", r"P\d+")
        (site / "study.yaml").write_text(text)
    before = ledger_path(None, site / "site.key").read_bytes()
    assert release(site, *changes) == code
    said = capfd.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert not (site / "run" / "generator").exists()
    assert not (site / "run" / "release").exists()
    assert ledger_path(None, site / "site.key").read_bytes() == before


def test_pixels_that_are_no_numbers_are_refused_with_their_file(site: Path) -> None:
    (site / "pictures/ring/P000.png").unlink()
    broken = np.full((32, 32), 7, np.float32)
    broken[3, 3] = np.nan
    Image.fromarray(broken).save(site / "pictures/ring/P000.tif")
    # Something else that ends the road before a training.
    assert release(site, "cohort.fractions=[0.6,0.2,0.2]") == 2
    inventory = json.loads((site / "run" / "inventory.json").read_text())
    assert "no numbers (NaN)" in json.dumps(inventory)
    summary = json.loads((site / "run" / "patches" / "summary.json").read_text())
    assert summary["patches"] == 2 * PATIENTS - 1
    assert (
        len(Chain(ledger_path(None, site / "site.key"), load_site_key(site / "site.key")).entries())
        == 2
    )
