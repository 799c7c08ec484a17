"""A generator leaves where its privacy cost is finite or the policy says why; then, alone."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medaug import cli
from medaug.config import load_pipeline
from medaug.domain import PatchSet, PrivacyCost, deal_independently
from medaug.errors import DisclosureError, RunFolderError, SettingsError
from medaug.export.sharing.shared import Grounds, SharedGenerator
from medaug.forbidden import forbidden_words
from medaug.generators.adversaries import Adversaries
from medaug.generators.networks import Generator
from medaug.generators.standalone import Sampler
from medaug.phantom import KINDS, render_lesion
from medaug.progress import Silent
from medaug.road.releasing import release
from medaug.road.run import Run
from medaug.road.sharing import FORMS, share_generator
from medaug.road.training import train
from medaug.scan.folder import scan
from medaug.site import open_ledger

SORTED = tuple(sorted(KINDS))
REASON = "Decided by the data board on 3 March: the patients' images are public."
PLAIN = ("patching.mm_per_pixel=2.0", "privacy.per_class=4", "export.formats=[npz]")
SGD = (
    *PLAIN,
    (
        "privacy={mode: dp-sgd, epsilon: 3, force: true, per_class: 4, "
        "dp_sgd: {rate: 0.3, steps: 20, generator_every: 2}}"
    ),
    (
        "generator={preset: small-data, window: [-100, 250], loss: cross-entropy, penalty: 0, "
        "augment: 0, width: 4, latent: 8, batch: 8, learning_rate: 0.05, device: cpu}"
    ),
)
VOTE = (
    *PLAIN,
    (
        "privacy={mode: dp-vote, epsilon: 3, per_class: 4, "
        "dp_vote: {candidates: 6, nearest: 2, perturb: [0.2, 0.1], left: 10}, "
        f"share_generator: '{REASON.replace(chr(39), chr(39) * 2)}'}}"
    ),
    "generator={preset: dp-vote, window: [-100, 250]}",
)


@pytest.fixture(scope="module")
def patches() -> PatchSet:
    """60 patients with a patch of each class."""
    from medaug.domain import PatchLocation, PatientKey, Unit

    rows = np.arange(180)
    pictures = np.array([render_lesion(SORTED[row % 3], row, 32, 2.0)[0] for row in range(30)])
    return PatchSet(
        images=pictures[rows % 30][:, None].astype(np.float32),
        masks=None,
        labels=rows % 3,
        classes=SORTED,
        patients=tuple(PatientKey(f"{0xABCDEF0123 + row // 3:032x}") for row in rows),
        locations=tuple(
            PatchLocation(f"case{row}", f"2.25.{row}", 0, (0.0, 0.0, 0.0), 2.0) for row in rows
        ),
        unit=Unit.HOUNSFIELD,
        modality="CT",
    )


def released(patches: PatchSet, folder: Path, *settings: str) -> Run:
    key = f"site_key={folder / 'site.key'}"
    run = Run(load_pipeline("phantom", [*settings, key]), folder / "run", Silent())
    vars(run)["patches"] = patches
    vars(run)["split"] = deal_independently(patches, (0.5, 0.25, 0.25), 0)
    train(run)
    release(run)
    return run


@pytest.fixture(scope="module")
def noisy(patches: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained with noisy gradients, and released."""
    pytest.importorskip("dp_accounting")
    return released(patches, tmp_path_factory.mktemp("noisy"), *SGD)


@pytest.fixture(scope="module")
def voted(patches: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return released(patches, tmp_path_factory.mktemp("voted"), *VOTE)


@pytest.fixture
def site(noisy: Run, tmp_path: Path) -> Callable[..., Path]:
    """``site()``: a copy of the run with its key and ledger; a dictionary changes a document."""

    def copy(**changes: dict[str, object]) -> Path:
        place = shutil.copytree(noisy.folder.parent, tmp_path / "site")
        names = {
            "decision": "review/decision.json",
            "release": "release/release.json",
            "config": "generator/config.json",
        }
        for document, fields in changes.items():
            path = place / "run" / names[document]
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return place

    return copy


def shared(place: Path, form: str, out: Path) -> Path:
    return share_generator(place / "run", form, out, place / "site.key")  # type: ignore[arg-type]


class TestWhetherItLeaves:
    COST = PrivacyCost("dp-sgd", 3.0, 1e-5, 0.7, 2.0, 1.0, 4, "an accountant", ("nothing",))

    def test_infinite_cost_needs_words(self, site: Callable[..., Path], tmp_path: Path) -> None:
        place = site(release={"mode": "empirical", "cost": None})
        with pytest.raises(DisclosureError, match=r"infinite.*privacy\.share_generator"):
            shared(place, "medigan", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        path = place / "run" / "review" / "decision.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"share_generator": REASON}))
        out = shared(place, "medigan", tmp_path / "out")
        assert REASON in (out / "README.md").read_text()
        book = open_ledger(None, place / "site.key")
        said = [entry.body["grounds"] for entry in book.entries() if entry.kind == "share"]
        assert len(said) == 1
        assert REASON in said[0]
        assert "no differential-privacy guarantee" in said[0]

    def test_from_the_command_line(
        self, site: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = site()
        command = ["share", str(place / "run"), "--as", "medigan", "--out", str(tmp_path / "out")]
        command += ["--site-key", str(place / "site.key")]
        assert cli._guarded(lambda: cli.app(command, standalone_mode=False)) == 0
        assert (tmp_path / "out" / "SHA256SUMS").is_file()
        show = ["ledger", "show", "--site-key", str(place / "site.key")]
        assert cli._guarded(lambda: cli.app(show, standalone_mode=False)) == 0
        assert "as medigan: Patient-level (" in capsys.readouterr().out
        path = place / "run" / "review" / "decision.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"outcome": "refused"}))
        command[5] = str(tmp_path / "other")
        assert cli._guarded(lambda: cli.app(command, standalone_mode=False)) == 3
        assert "Refused by the gate" in capsys.readouterr().err
        assert not (tmp_path / "other").exists()

    def test_the_words_are_those_of_the_policy_when_it_was_released(self, voted: Run) -> None:
        decision = json.loads((voted.folder / "review" / "decision.json").read_text())
        assert decision["share_generator"] == REASON
        assert "share_generator" not in voted.config.privacy.decisive()

    @pytest.mark.parametrize(
        ("cost", "reason", "says"),
        [
            (None, None, "infinite"),
            (None, "   ", "infinite"),
            (replace(COST, unit="patch"), None, "infinite"),
            (None, "Legal says that the weights are fully anonymous.", "claims 'anonymous'"),
        ],
    )
    def test_no_grounds(self, cost: PrivacyCost | None, reason: str | None, says: str) -> None:
        with pytest.raises(DisclosureError, match=says):
            Grounds(cost, reason)

    def test_every_reason_at_once(self, site: Callable[..., Path], tmp_path: Path) -> None:
        place = site(decision={"outcome": "refused"}, release={"generator_digest": "0" * 64})
        (place / "run" / "generator" / "noise.json").write_text('{"run": "another"}')
        path = place / "run" / "generator" / "config.json"
        config = json.loads(path.read_text())
        config["record"]["ancestors"] = [{"public": True}, {"public": False}]
        path.write_text(json.dumps(config))
        with pytest.raises(DisclosureError) as refused:
            shared(place, "monai-bundle", tmp_path / "out")
        said = " ".join(refused.value.reasons)
        assert len(refused.value.reasons) == 4
        wanted = ("gate refused", "other weights", "no charge for", "not declared public")
        assert all(part in said for part in wanted)

    def test_a_refiner_draws_with_what_cannot_be_shared(
        self, site: Callable[..., Path], tmp_path: Path
    ) -> None:
        place = site(config={"settings": {"preset": "simulate-and-refine"}})
        with pytest.raises(SettingsError, match="refines what a simulator renders"):
            shared(place, "medigan", tmp_path / "out")
        book = open_ledger(None, place / "site.key")
        assert [entry for entry in book.entries() if entry.kind == "share"] == []

    def test_every_reason_is_told_at_once(self, site: Callable[..., Path], tmp_path: Path) -> None:
        place = site(release={"mode": "empirical", "cost": None})
        path = place / "run" / "review" / "decision.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"outcome": "refused"}))
        with pytest.raises(DisclosureError) as refused:
            shared(place, "medigan", tmp_path / "out")
        said = " ".join(refused.value.reasons)
        assert "privacy cost is infinite" in said
        assert "The gate refused" in said

    def test_withdrawn(self, site: Callable[..., Path], noisy: Run, tmp_path: Path) -> None:
        place = site()
        token = min(key.token for key in noisy.split.training)
        open_ledger(None, place / "site.key").withdraw(token)
        with pytest.raises(DisclosureError, match="has withdrawn"):
            shared(place, "monai-bundle", tmp_path / "out")

    def test_input_at_fault(self, site: Callable[..., Path], tmp_path: Path) -> None:
        place = site()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "a").touch()
        with pytest.raises(RunFolderError, match="something already"):
            shared(place, "medigan", tmp_path / "full")
        with pytest.raises(SettingsError, match="monai-bundle, medigan"):
            shared(place, "onnx", tmp_path / "out")
        (place / "site.ledger.sqlite").unlink()
        with pytest.raises(SettingsError, match="no ledger here"):
            shared(place, "medigan", tmp_path / "out")


class TestWhatLeaves:
    FILES = {  # noqa: RUF012 - read only
        "monai-bundle": {
            "README.md",
            "SHA256SUMS",
            "configs/generator.json",
            "configs/inference.json",
            "configs/metadata.json",
            "models/generator.safetensors",
            "scripts/__init__.py",
            "scripts/sampler.py",
        },
        "medigan": {
            "README.md",
            "SHA256SUMS",
            "global.json",
            "medaug_phantom/__init__.py",
            "medaug_phantom/generator.json",
            "medaug_phantom/generator.safetensors",
            "medaug_phantom/sampler.py",
        },
    }

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("mode", ["noisy", "voted"])
    def test_every_file_and_tensor(
        self, form: str, mode: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        run: Run = request.getfixturevalue(mode)
        out = shared(run.folder.parent, form, tmp_path / "out")
        files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert files == self.FILES[form]
        (weights,) = out.rglob("*.safetensors")
        tensors = load_file(weights)
        original = load_file(run.folder / "generator" / "generator.safetensors")
        assert {name: value.shape for name, value in tensors.items()} == {
            name: value.shape for name, value in original.items()
        }
        if mode == "noisy":
            network = Generator(32, 1, 3, run.generator.settings)  # type: ignore[union-attr]
            assert set(tensors) == {f"0.{name}" for name in network.state_dict()}
        else:
            assert set(tensors) == {"population"}
        header = weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")]
        assert set(json.loads(header)) == {*tensors, "__metadata__"}
        assert set(json.loads(header)["__metadata__"]) == {"notice"}
        secrets = [key.token for key in run.patches.patient_order]
        secrets += [run.patches.digest, run.split.part(run.patches, "training").digest]
        secrets.append(json.loads((run.folder / "generator" / "noise.json").read_text())["run"])
        assert not scan(out, secrets).findings
        places = [str(place).encode() for place in (run.folder, out, Path.cwd(), Path.home())]
        for path in out.rglob("*"):
            assert not path.is_file() or not any(one in path.read_bytes() for one in places)
            if path.suffix in {".md", ".json"}:
                assert forbidden_words(path.read_text()) == []
        again = shared(run.folder.parent, form, tmp_path / "again")
        assert (again / "SHA256SUMS").read_bytes() == (out / "SHA256SUMS").read_bytes()

    def test_a_discriminator_has_no_place(self, noisy: Run) -> None:
        import torch

        settings = noisy.generator.settings  # type: ignore[union-attr]
        both = Adversaries(32, 1, 3, settings, 0, torch.device("cpu"))
        judge = {f"0.{name}": v.numpy() for name, v in both.discriminator.state_dict().items()}
        described = dict.fromkeys(
            [
                "sampler",
                "classes",
                "shape",
                "window",
                "unit",
                "mm_per_pixel",
                "draws_masks",
                "latent",
                "latent_noise",
                "condition_on_size",
                "one_per_class",
                "width",
                "kernel",
                "slope",
            ]
        )
        fields = {
            "name": "n",
            "kind": "network",
            "grounds": Grounds(TestWhetherItLeaves.COST, None),
            "modality": "CT",
            "licence": "",
            "medaug": "0",
            "release": "0",
        }
        for tensors in (judge, {"images": np.zeros((1, 32, 32))}):
            with pytest.raises(DisclosureError, match="is not a generator's"):
                SharedGenerator(**fields, described=described, tensors=tensors)  # type: ignore[arg-type]
        right = {"0.first.weight": np.zeros((2, 2))}
        with pytest.raises(DisclosureError, match="patients"):
            SharedGenerator(**fields, described=described | {"patients": []}, tensors=right)  # type: ignore[arg-type]


class TestItDraws:
    def test_the_same_as_here(self, noisy: Run, tmp_path: Path) -> None:
        """A seed gives the patch that medaug draws of it, but for the rounding of a convolution."""
        out = shared(noisy.folder.parent, "monai-bundle", tmp_path / "out")
        sampler = Sampler(
            out / "models" / "generator.safetensors", out / "configs" / "generator.json", "cpu"
        )
        for label in SORTED:
            ours = noisy.generator.draw(label, [5, 0, 40]).images
            theirs = sampler.draw(label, [5, 0, 40])["images"]
            assert ours.std() > 0.01
            np.testing.assert_allclose(theirs, ours, atol=1e-3)
            np.testing.assert_array_equal(sampler.draw(label, [0])["images"][0], theirs[1])
        assert sampler.draw(None, [])["images"].shape == (0, 1, 32, 32)

    @pytest.mark.parametrize("mode", ["noisy", "voted"])
    def test_as_medigan_calls_it(
        self, mode: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        """As medigan does: a package by its path, ``generate`` by its name, the base arguments."""
        run: Run = request.getfixturevalue(mode)
        out = shared(run.folder.parent, "medigan", tmp_path / "out")
        ((model, entry),) = json.loads((out / "global.json").read_text()).items()
        assert model.startswith("00000_")
        assert set(entry) == {"execution", "selection", "description"}
        how = entry["execution"]
        folder, name = out / how["package_name"], "shared_by_a_test"
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        try:
            spec.loader.exec_module(package)
            generate = getattr(package, how["generate_method"]["name"])
            weights = folder / (how["model_name"] + how["extension"])
            base = dict.fromkeys(how["generate_method"]["args"]["base"])
            assert set(base) == {"model_file", "num_samples", "output_path", "save_images"}
            images = generate(str(weights), 4, "", False, first_seed=3)
            assert [image.shape for image in images] == [(1, *how["image_size"])] * 4
            expected = run.generator.draw(SORTED[0], [3]).images[0]
            np.testing.assert_allclose(images[0], expected, atol=1e-3)
            assert generate(str(weights), 2, str(tmp_path / "s"), True) is None
            assert len(list((tmp_path / "s").iterdir())) == 2
            assert generate(str(weights), 0, "", False) == []
            with pytest.raises(ValueError, match="expected one of"):
                generate(str(weights), 1, "", False, label="unknown")
        finally:
            for loaded in (name, f"{name}.sampler"):
                sys.modules.pop(loaded, None)

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["noisy", "voted"])
    def test_with_monai(self, mode: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """``python -m monai.bundle run``, offline; of a network on a machine without medaug."""
        pytest.importorskip("fire")
        run: Run = request.getfixturevalue(mode)
        out = shared(run.folder.parent, "monai-bundle", tmp_path / "out")
        barred = tmp_path / "barred"
        barred.mkdir()
        (barred / "sitecustomize.py").write_text(
            "import socket\n"
            "def no(*a, **k): raise OSError('no network here')\n"
            "socket.socket.connect = socket.getaddrinfo = no\n"
        )
        if mode == "noisy":
            (barred / "medaug.py").write_text("raise ImportError('no medaug here')\n")
        here = [str(barred), *([] if mode == "noisy" else [str(Path(__file__).parents[1])])]
        command = [sys.executable, "-m", "monai.bundle", "run"]
        command += ["--config_file", "configs/inference.json"]
        command += ["--meta_file", "configs/metadata.json", "--count", "3"]
        done = subprocess.run(
            [*command, "--output_dir", str(tmp_path / "drawn")],
            check=False,
            cwd=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(here)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        for at, label in enumerate(SORTED):
            with np.load(tmp_path / "drawn" / f"{at}.npz") as drawn:
                assert drawn["label"] == label
                expected = run.generator.draw(label, [0, 1, 2]).images
                np.testing.assert_allclose(drawn["images"], expected, atol=1e-3)
