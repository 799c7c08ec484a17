"""Studies on Dask workers: the same bytes as without, whatever happens to the workers."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medaug.config import PipelineConfig, load_pipeline
from medaug.errors import SettingsError
from medaug.phantom import write_cohort
from medaug.pipeline import run_pipeline
from medaug.progress import Progress, Silent
from medaug.workers import AHEAD, workers

pytest.importorskip("distributed", reason="medaug[dask] is not installed")
dask = pytest.importorskip("dask")
psutil = pytest.importorskip("psutil")

MARKER = "Zyxomma7Petiolat"
ARTEFACTS = ("inventory.json", "patches/patches.h5", "patches/summary.json")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three DICOM and three NIfTI patients."""
    folder = tmp_path_factory.mktemp("cohort") / "phantom"
    write_cohort(folder, patients=6, seed=5, marker=MARKER, workers=2)
    return folder


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("key") / "site.key"


@pytest.fixture(scope="module")
def extract(key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def run(data: Path, dask: str | None, progress: Progress | None = None, *settings: str) -> Path:
        out = tmp_path_factory.mktemp("out") / "run"
        config: PipelineConfig = load_pipeline("phantom", [f"site_key={key_file}", *settings], data)
        run_pipeline(config, out, "extract", progress, dask=dask)
        return out

    return run


@pytest.fixture(scope="module")
def serial(cohort: Path, extract: Callable[..., Path]) -> Path:
    return extract(cohort, None)


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ARTEFACTS)


class Meanwhile(Silent):
    """Does something once the second study has been cut."""

    def __init__(self, act: Callable[[], None], after: int = 2) -> None:
        self.act, self.left, self.cutting = act, after, False

    def start(self, what: str, *_: object) -> None:
        self.cutting = what == "cutting patches"
        if self.cutting and not self.left:
            self.act()

    def advance(self, *_: object) -> None:
        self.left -= self.cutting
        if self.cutting and not self.left:
            self.act()


def worker_processes() -> list["psutil.Process"]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


class TestTheResultIsIdenticalToTheSerialOneOrderIncluded:
    def test_byte_for_byte(self, cohort, extract, serial, key_file, capfd, caplog):
        with caplog.at_level(logging.DEBUG):
            parallel = extract(cohort, "local:2")
        assert same(serial, parallel)
        assert json.loads((parallel / "patches/summary.json").read_text())["patches"] > 6
        written = b"".join(path.read_bytes() for path in parallel.rglob("*") if path.is_file())
        said = "".join((*capfd.readouterr(), caplog.text)).encode() + written
        key = key_file.read_text().strip()
        assert not any(
            secret in said for secret in (MARKER.encode(), key.encode(), bytes.fromhex(key))
        )

    @pytest.mark.slow
    def test_at_an_address(self, cohort, extract, serial):
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=1, threads_per_worker=3, dashboard_address="127.0.0.1:0", silence_logs="ERROR"
        ) as cluster:
            assert same(serial, extract(cohort, cluster.scheduler_address))

    @pytest.mark.slow
    def test_no_more_than_a_few_results_wait(self, tmp_path):
        files = [tmp_path / f"{number}" for number in range(40)]
        with workers("local:2", tmp_path) as spread:
            results = spread(Path.touch, files, lambda *_: None)
            next(results)
            time.sleep(1.0)
            begun = sum(file.exists() for file in files)
            list(results)
        assert 1 <= begun <= 1 + 2 * AHEAD
        assert all(file.exists() for file in files)


class TestAWorkerThatDiesLosesNothing:
    def test_in_the_middle_of_the_work(self, cohort, extract, serial):
        killed = []

        def kill() -> None:
            killed.append(worker_processes()[0])
            killed[0].kill()

        assert same(serial, extract(cohort, "local:2", Meanwhile(kill)))
        assert len(killed) == 1

    def test_what_kills_its_workers_is_named_and_the_rest_go_on(self, tmp_path):
        items = ["1 + 1", "__import__('os')._exit(1)", "3", "4", "5"]
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            workers("local:1", tmp_path) as spread,
        ):
            results = list(spread(eval, items, lambda item, reason: f"{item}: {reason}"))
        assert results[0] == 2
        assert results[2:] == [3, 4, 5]
        assert results[1].startswith("__import__('os')._exit(1): the worker died")


class TestAStudyThatFailsIsListedAndTheRestGoOn:
    @pytest.mark.parametrize("dask", [None, pytest.param("local:2", marks=pytest.mark.slow)])
    def test_files_that_go_away_after_the_inspection(self, cohort, extract, serial, tmp_path, dask):
        data = shutil.copytree(cohort, tmp_path / "phantom")
        mask = sorted(data.glob("nifti/*/lesions.nii.gz"))[-1]

        out = extract(data, dask, Meanwhile(mask.unlink, after=0))
        whole, left = (json.loads((run / ARTEFACTS[2]).read_text()) for run in (serial, out))
        lost = [row for row in left["skipped"] if row["reason"].startswith("since it was")]
        cases = {row["case"] for row in lost}
        listed = json.loads((out / "inventory.json").read_text())["cases"]
        (case,) = (case for case in listed if case["case"] in cases)
        assert {row["lesion"] for row in lost} == {row["tracking_uid"] for row in case["lesions"]}
        assert 0 < left["patches"] < whole["patches"]

    @pytest.mark.slow
    def test_settings_that_fit_no_study_end_it_with_the_same_words(self, cohort, extract):
        said = []
        for dask_address in (None, "local:2"):
            with pytest.raises(SettingsError) as caught:
                extract(cohort, dask_address, None, "patching.mm_per_pixel=null")
            said.append(caught.value.faults)
        assert said[0] == said[1]


class TestWhatCannotWork:
    @pytest.mark.slow
    def test_a_scheduler_that_goes_away(self, tmp_path):
        from distributed import LocalCluster

        def use() -> None:
            with workers(cluster.scheduler_address, tmp_path) as spread:
                for number, _ in enumerate(spread(time.sleep, [0.2] * 30, lambda *_: None)):
                    if number == 1:
                        cluster.close()

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
            LocalCluster(
                n_workers=1, dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
            ) as cluster,
            pytest.raises(SettingsError, match="the scheduler went away"),
        ):
            use()

    def test_an_address_nobody_answers_at(self, tmp_path):
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
            pytest.raises(SettingsError, match="no Dask scheduler with workers answers"),
            workers("tcp://127.0.0.1:9", tmp_path),
        ):
            pass

    @pytest.mark.parametrize("address", ["local:", "local:0", "local:-1", "local:²", "local:two"])
    def test_a_number_of_workers_that_is_none(self, tmp_path, address):
        with pytest.raises(SettingsError, match="no number of workers"), workers(address, tmp_path):
            pass

    def test_without_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setattr("medaug.workers.find_spec", lambda _: None)
        with (
            pytest.raises(SettingsError, match=r'pip install "medaug\[dask\]"'),
            workers("local", tmp_path),
        ):
            pass

    def test_a_worker_that_sees_other_files(self, tmp_path, monkeypatch):
        monkeypatch.setattr("medaug.workers.version", lambda _: "another")
        with (
            pytest.raises(SettingsError, match="a worker cannot take part"),
            workers("local:1", tmp_path),
        ):
            pass
