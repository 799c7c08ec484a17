"""A pipeline file that is wrong says where, what came, what is allowed, all at once."""

from pathlib import Path

import pytest
import yaml

from medaug.config import SHIPPED, load_pipeline
from medaug.errors import SettingsError

GOOD = {
    "name": "study",
    "sources": [{"kind": "images", "pattern": r"(?P<label>\w+)/(?P<patient>\d+)\.png"}],
    "generator": {"window": [0, 255]},
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_pipeline_is_valid(path: Path) -> None:
    assert load_pipeline(path).name
    assert load_pipeline(path.stem) == load_pipeline(path)


def test_all_faults_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        generator={"window": [0, 255], "widht": 8},
        patching={"size": -1},
        sourcse=[],
    )
    with pytest.raises(SettingsError) as caught:
        load_pipeline(path)
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "study.yaml: generator.widht: unknown key" in text
    assert "did you mean 'width'?" in text
    assert "did you mean 'sources'?" in text
    assert "study.yaml: patching.size: -1" in text


def test_an_unknown_key_inside_a_source_names_that_sources_keys(tmp_path: Path) -> None:
    source = GOOD["sources"][0] | {"patern": "x"}  # type: ignore[index]
    with pytest.raises(SettingsError) as caught:
        load_pipeline(written(tmp_path, sources=[source]))
    assert "did you mean 'pattern'?" in str(caught.value)
    assert "modality" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [1", "this is not YAML"), ("", "no settings in it"), ("- 1", "no settings in it")],
)
def test_what_is_not_a_pipeline_is_said_to_be_none(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_pipeline(path)


def test_a_missing_file_names_the_pipelines_that_exist() -> None:
    with pytest.raises(SettingsError, match="liver_ct"):
        load_pipeline("livre_ct")


def test_overrides_reach_into_lists_and_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path)
    config = load_pipeline(path, ["sources.0.path=elsewhere", "generator.window=[-5, 5]", "seed=7"])
    assert config.sources[0].path == "elsewhere"
    assert config.generator.window == (-5, 5)
    assert config.seed == 7
    for wrong in ("seed", "=3", "sources.9.path=x", "name.deeper=1"):
        with pytest.raises(SettingsError, match="--set"):
            load_pipeline(path, [wrong])
    with pytest.raises(SettingsError, match="unknown key"):
        load_pipeline(path, ["sed=1"])


def test_data_in_the_file_starts_at_the_file_and_the_option_wins(tmp_path: Path) -> None:
    path = written(tmp_path, data="images")
    assert load_pipeline(path).data == tmp_path / "images"
    assert load_pipeline(path, data=Path("other")).data == Path("other")


def test_resolved_settings_carry_no_path_of_the_site(tmp_path: Path) -> None:
    config = load_pipeline(written(tmp_path, site_key=str(tmp_path / "k")), data=tmp_path)
    assert str(tmp_path) not in str(config.resolved())
