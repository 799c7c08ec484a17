"""Keys and signatures over the command line, and in a run's settings."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medaug.cli import app
from medaug.config import load_pipeline
from medaug.errors import InputError, SettingsError
from medaug.pipeline import run_pipeline


def medaug(*arguments: object) -> str:
    """What a command prints; its error is raised."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, Exception):
        raise done.exception
    return done.stdout


def test_draw_keys_sign_and_verify(library, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(library.release_dir, tmp_path / "release"))
    key, public = tmp_path / "site.key", tmp_path / "site.pub"
    medaug("keygen", key)
    with pytest.raises(InputError, match="nobody signed"):
        medaug("verify", folder, "--signed-by", public)
    medaug("sign", folder, "--with", key)
    answer = json.loads(medaug("verify", folder, "--signed-by", public, "--json"))
    assert answer["ok"]
    assert answer["facts"]["signature"].endswith("checked")
    assert ", checked" in medaug("verify", folder, "--signed-by", public)
    (folder / "DATASHEET.md").write_text("Other words.")
    with pytest.raises(InputError, match=r"DATASHEET\.md was changed"):
        medaug("sign", folder, "--with", key)


def test_a_key_that_others_may_read_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    medaug("keygen", tmp_path / "site.key")
    settings = [f"export.sign_with={tmp_path / 'site.key'}"]
    config = load_pipeline("phantom", settings, data=tmp_path)
    assert str(tmp_path) not in json.dumps(config.resolved())
    assert config.resolved()["export"]["sign_with"] is True
    (tmp_path / "site.key").chmod(0o644)
    with pytest.raises(SettingsError, match="mode 0644"):
        run_pipeline(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
