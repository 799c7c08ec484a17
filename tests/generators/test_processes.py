"""Two processes give the losses of one; what cannot be shared out is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import medaug
from medaug.errors import SettingsError
from medaug.generators import processes
from medaug.generators.processes import Processes, together
from medaug.generators.settings import PRESETS, GeneratorSettings, RefinerSettings

HERE = str(Path(medaug.__file__).parents[1])
FIGURES = ("loss_d", "loss_g", "augment")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """The folder of each preset, trained by one process and by two."""
    folders = {}
    for count in (1, 2):
        root = tmp_path_factory.mktemp(f"by_{count}")
        runs = [str(part) for preset in PRESETS for part in (root / preset, preset)]
        script = Path(__file__).with_name("several.py")
        subprocess.run(
            [sys.executable, script, str(count), *runs],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": HERE},
            check=True,
            timeout=120,
        )
        folders |= {(count, preset): root / preset for preset in PRESETS}
    return folders


def lines(folder: Path) -> list[dict]:
    return list(map(json.loads, (folder / "training.jsonl").read_text().splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_give_the_losses_of_one(
    preset: str, trained: dict[tuple[int, str], Path]
) -> None:
    alone, both = (lines(trained[count, preset]) for count in (1, 2))
    assert [line["step"] for line in alone] == [line["step"] for line in both]
    assert len(alone) >= 12
    for figure in FIGURES:
        np.testing.assert_allclose(
            *([line[figure] for line in rows] for rows in (alone, both)), rtol=1e-4, atol=1e-5
        )
    assert alone[0]["loss_d"] != alone[-1]["loss_d"]
    weights = [load_file(trained[n, preset] / "generator.safetensors") for n in (1, 2)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=0.02, atol=2e-3, err_msg=name)


def test_every_row_goes_to_one_process() -> None:
    import torch

    whole = torch.arange(12)
    parts = [Processes(size=3, rank=rank).part(whole, groups=2).tolist() for rank in range(3)]
    assert parts == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_spec", lambda _: None)
    refiner = RefinerSettings(preset="simulate-and-refine", window=(0, 1), device="cpu")
    with pytest.raises(SettingsError) as refused, together(refiner, devices=999):
        pass
    text = str(refused.value)
    for said in ("medaug[distributed]", "simulate-and-refine", "a multiple of 999", "at most"):
        assert said in text


def test_a_batch_that_cannot_be_shared_out() -> None:
    with (
        pytest.raises(SettingsError, match="8 for 3 processes"),
        together(GeneratorSettings(window=(0, 1), batch=8, device="cpu"), devices=1, nodes=3),
    ):
        pass
