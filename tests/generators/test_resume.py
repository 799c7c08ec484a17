"""A run that was interrupted and continued ends with the same bits as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from medaug.errors import RunFolderError
from medaug.generators.training import train_generator

SCRIPT = Path(__file__).with_name("interrupted.py")
_spec = spec_from_file_location("interrupted", SCRIPT)
interrupted = module_from_spec(_spec)
_spec.loader.exec_module(interrupted)

PRESETS = ("small-data", "conditional", "frid-adar-2018")


def lines(folder: Path) -> list[dict]:
    """The figures of a run; how fast it went is no part of them."""
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{**row, "images_per_second": 0} for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for preset in PRESETS:
        folders[preset] = tmp_path_factory.mktemp(preset)
        interrupted.train(folders[preset], preset)
    return folders


def assert_same(folder: Path, unbroken: Path) -> None:
    for name in ("generator.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()
    assert lines(folder) == lines(unbroken)
    names = ["config.json", "generator.safetensors", "training.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names


@pytest.mark.parametrize("preset", PRESETS)
def test_ctrl_c_again_and_again(preset: str, unbroken: dict[str, Path], tmp_path: Path) -> None:
    arguments = tmp_path, preset
    for step in (4, 7, 12, 17):  # before the first checkpoint, between, at one, in the next game
        with pytest.raises(KeyboardInterrupt):
            interrupted.train(*arguments, interrupted.Deadly(step, KeyboardInterrupt))
    interrupted.train(*arguments)
    assert_same(tmp_path, unbroken[preset])


@pytest.mark.parametrize(
    ("preset", "kind", "at"),
    [("small-data", "step", 9), ("frid-adar-2018", "step", 15), ("small-data", "writing", 2)],
)
def test_kill_9(preset: str, kind: str, at: int, unbroken: dict[str, Path], tmp_path: Path) -> None:
    threads = str(torch.get_num_threads())
    died = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, preset, kind, str(at)],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
    interrupted.train(tmp_path, preset)
    assert_same(tmp_path, unbroken[preset])


def test_a_line_cut_off_by_the_kill_is_dropped(unbroken: dict[str, Path], tmp_path: Path) -> None:
    arguments = tmp_path, "small-data"
    with pytest.raises(KeyboardInterrupt):
        interrupted.train(*arguments, interrupted.Deadly(9, KeyboardInterrupt))
    with (tmp_path / "training.jsonl").open("a") as file:
        file.write('{"step": 10, "ima')
    interrupted.train(*arguments)
    assert_same(tmp_path, unbroken["small-data"])


def test_a_complete_run_is_opened_and_not_trained_again(unbroken: dict[str, Path]) -> None:
    folder = unbroken["small-data"]
    before = (folder / "generator.safetensors").stat().st_mtime_ns
    deadly = interrupted.Deadly(1, KeyboardInterrupt)
    settings = interrupted.settings("small-data")
    tuning = interrupted.tuning()
    train_generator(interrupted.patches(), settings, 3, folder, deadly, tuning=tuning)
    assert (folder / "generator.safetensors").stat().st_mtime_ns == before
    for other in (None, replace(tuning, patches=interrupted.patches(7))):
        with pytest.raises(RunFolderError, match="other tuning patches"):
            train_generator(interrupted.patches(), settings, 3, folder, tuning=other)


@pytest.mark.parametrize("complete", [False, True])
def test_a_folder_of_another_run_is_refused(
    complete: bool, unbroken: dict[str, Path], tmp_path: Path
) -> None:
    patches, settings = interrupted.patches(), interrupted.settings("small-data")
    folder = unbroken["small-data"]
    if not complete:
        folder = tmp_path
        with pytest.raises(KeyboardInterrupt):
            train_generator(patches, settings, 3, folder, interrupted.Deadly(7, KeyboardInterrupt))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = settings.model_copy(update={"learning_rate": 1e-5})
    with pytest.raises(RunFolderError, match="other generator settings and seed"):
        train_generator(patches, other, 4, folder)
    with pytest.raises(RunFolderError, match="other training patches"):
        train_generator(patches.select(range(18)), settings, 3, folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_does_not_touch_the_weights_may_change(
    unbroken: dict[str, Path], tmp_path: Path
) -> None:
    settings = interrupted.settings("small-data")
    seldom = settings.model_copy(update={"checkpoint_every": 1000, "log_every": 7})
    train_generator(interrupted.patches(), seldom, 3, tmp_path, tuning=interrupted.tuning())
    weights = [
        (f / "generator.safetensors").read_bytes() for f in (tmp_path, unbroken["small-data"])
    ]
    assert weights[0] == weights[1]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint" / "state.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="cannot be read"):
        train_generator(interrupted.patches(), interrupted.settings("small-data"), 3, tmp_path)
