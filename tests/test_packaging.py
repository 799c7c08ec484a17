"""What ``pip install`` of a built wheel brings: templates, pipelines, licence, and a command."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(place), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(place.glob("*.whl"))


def test_everything_that_is_not_code_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = [*ROOT.glob("medaug/**/*"), *ROOT.glob("pipelines/*.yaml")]
    wanted = {
        f"medaug/pipelines/{path.name}"
        if path.parent.name == "pipelines"
        else path.relative_to(ROOT).as_posix()
        for path in sources
        if path.is_file() and path.suffix in {".py", ".yaml", ".j2", ".html", ".css", ".json"}
    }
    assert wanted - inside == set()
    assert {"medaug/pipelines/liver_ct.yaml", "medaug/export/release.schema.json"} <= wanted
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_the_installed_wheel_finds_its_pipelines(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import medaug.config\n"
        "assert medaug.config.__file__.startswith(sys.argv[1]), medaug.config.__file__\n"
        "print(medaug.config.SHIPPED, medaug.config.load_pipeline('liver_ct').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(tmp_path / "medaug" / "pipelines"), "liver_ct"]
