"""A signature finds whoever rewrites files and digests together; minisign agrees on every one."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaug.domain import Window
from medaug.errors import ReaderError, SettingsError
from medaug.export.seal import sign_release
from medaug.export.settings import ExportSettings
from medaug.export.signing import (
    load_public_key,
    load_secret_key,
    make_keys,
    sign,
    signature_fault,
)
from medaug.export.verify import verify_release
from medaug.export.write import write_release

# Made by minisign 0.11 (-GW, -S) over the two bytes "x\n".
SECRET = (
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACF26Va/4"
    "xC209s6DfYTXqVWcj7LqrTvNMIqrLHXsUKepDAhm8+K4Qv4BU3gd4kvcmA10Wr3eOglzbswICCwEL8Om"
    "uzmpnmdfAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
)
PUBLIC = (
    "untrusted comment: minisign public key 2DC4F8AF55BA5D08\n"
    "RWQIXbpVr/jELf4BU3gd4kvcmA10Wr3eOglzbswICCwEL8Omuzmpnmdf\n"
)
SIGNED = (
    "untrusted comment: signature from minisign secret key\n"
    "RUQIXbpVr/jELULdTfxpnV9vqeWHOHnwhiBm5kjp8LJ4JkmxxHCwQIpE8n2CCyRuHPGO0LIlH4KvyXOW+Q8jWlqlEekjklIGUQ0=\n"
    "trusted comment: made by minisign\n"
    "M9vYx06i4ATaRDbqKrbWP3gebyWeGALk/FfC5cjR1cRROFivyEeTY/MZJRi3KKkT0OQJYX4ilzAaYtsGvLRoCg==\n"
)

needs_minisign = pytest.mark.skipif(not shutil.which("minisign"), reason="minisign is not here")


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """Folder with ``site.key`` and ``site.pub``, and another pair."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder / "site.key")
    make_keys(folder / "other.key")
    return folder


@pytest.fixture(scope="module")
def signed(make_release, keys, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "release"
    write_release(
        make_release(per_class=1, size=(8, 8)),
        folder,
        ExportSettings(formats=("npz", "png"), sign_with=keys / "site.key"),
        name="trial",
        seed=1,
        window=Window(-100, 200),
    )
    return folder


def sum_again(folder: Path) -> None:
    """What a forger without the key can do."""
    names = [line.partition("  ")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


class TestASignedRelease:
    """With the public key nothing can be changed, in whatever way the digests are mended."""

    def test_holds_and_names_its_signer(self, signed, keys) -> None:
        found = verify_release(signed, keys / "site.pub")
        assert found.ok, found.problems
        name = load_public_key(keys / "site.pub").name
        assert found.facts["signature"] == f"by the key {name}, checked"
        assert f"names the key {name}; not checked" in verify_release(signed).facts["signature"]

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_flipped_bit_is_found_though_the_digests_fit(self, signed, keys, data) -> None:
        files = sorted(path for path in signed.rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files), label="file")
        whole, sums = path.read_bytes(), (signed / "SHA256SUMS").read_bytes()
        at = data.draw(st.integers(0, len(whole) * 8 - 1), label="bit")
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        try:
            path.write_bytes(damaged)
            if not path.name.startswith("SHA256SUMS"):
                sum_again(signed)
            found = verify_release(signed, keys / "site.pub")
        finally:
            path.write_bytes(whole)
            (signed / "SHA256SUMS").write_bytes(sums)
        assert found.problems[0].startswith("SHA256SUMS.minisig ")

    def test_every_bit_of_the_signature_counts(self, signed, keys) -> None:
        """Its comments too, and the bits that base64 leaves unused."""
        whole = (signed / "SHA256SUMS.minisig").read_bytes()
        data = (signed / "SHA256SUMS").read_bytes()
        key = load_public_key(keys / "site.pub")
        assert signature_fault(whole, data, key) is None
        for at in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[at // 8] ^= 1 << at % 8
            assert signature_fault(bytes(damaged), data, key), f"bit {at}"
        for longer in (whole + b"\n", whole + b"x", whole[:-1], whole.replace(b"\n", b"\r\n")):
            assert signature_fault(longer, data, key)

    def test_another_key_or_none_at_all(self, signed, keys, tmp_path) -> None:
        assert "is by the key" in verify_release(signed, keys / "other.pub").problems[0]
        folder = Path(shutil.copytree(signed, tmp_path / "r"))
        (folder / "SHA256SUMS.minisig").unlink()
        assert verify_release(folder).ok
        assert "nobody signed" in verify_release(folder, keys / "site.pub").problems[0]
        (folder / "SHA256SUMS.minisig").write_text("signed, honestly\n")
        assert "not a signature" in verify_release(folder).problems[0]

    def test_the_same_twice_and_signed_later_is_signed_at_once(
        self, signed, keys, tmp_path
    ) -> None:
        folder = Path(shutil.copytree(signed, tmp_path / "r"))
        (folder / "SHA256SUMS.minisig").unlink()
        sign_release(folder, keys / "site.key")
        name = "SHA256SUMS.minisig"
        assert (folder / name).read_bytes() == (signed / name).read_bytes()

    def test_what_does_not_verify_is_not_signed(self, signed, keys, tmp_path) -> None:
        folder = Path(shutil.copytree(signed, tmp_path / "r"))
        (folder / "png/table.csv").unlink()
        with pytest.raises(ReaderError, match=r"table\.csv is missing"):
            sign_release(folder, keys / "site.key")


class TestKeys:
    """A secret key is for its owner alone, and is read in one way only."""

    def test_the_file_is_its_owners_and_says_nothing_when_shown(self, keys) -> None:
        path = keys / "site.key"
        assert path.stat().st_mode & 0o777 == 0o600
        key = load_secret_key(path)
        assert key.public == load_public_key(keys / "site.pub")
        assert str(key.seed) not in repr(key)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
    def test_others_may_not_read_it(self, keys, tmp_path, mode) -> None:
        path = Path(shutil.copy(keys / "site.key", tmp_path / "open.key"))
        path.chmod(mode)
        with pytest.raises(SettingsError, match=f"mode {mode:04o}"):
            load_secret_key(path)

    def test_none_is_overwritten(self, keys) -> None:
        with pytest.raises(SettingsError, match=r"site\.pub"):
            make_keys(keys / "site.key")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda raw: raw[:2] + b"Sc" + raw[4:], "has a password"),
            (lambda raw: raw[:62] + bytes([raw[62] ^ 1]) + raw[63:], "damaged"),
            (lambda raw: raw[:-1], "does not hold such a key"),
        ],
    )
    def test_a_key_that_cannot_sign_is_refused(self, keys, tmp_path, change, says) -> None:
        head, raw = (keys / "site.key").read_text().splitlines()
        path = tmp_path / "wrong.key"
        path.touch(0o600)
        path.write_text(f"{head}\n{base64.b64encode(change(base64.b64decode(raw))).decode()}\n")
        with pytest.raises(SettingsError, match=says):
            load_secret_key(path)

    @pytest.mark.parametrize("load", [load_secret_key, load_public_key])
    def test_no_key_at_all(self, tmp_path, load) -> None:
        (tmp_path / "empty").touch(0o600)
        for path in (tmp_path / "absent", tmp_path / "empty"):
            with pytest.raises(SettingsError, match=r"cannot be read|does not hold"):
                load(path)


class TestMinisign:
    """Keys and signatures are those of minisign, in both directions."""

    def test_what_minisign_made_is_read(self, tmp_path) -> None:
        path = tmp_path / "a.pub"
        path.write_text(PUBLIC)
        key = load_public_key(path)
        assert signature_fault(SIGNED.encode(), b"x\n", key) is None
        assert "was not made" in (signature_fault(SIGNED.encode(), b"y\n", key) or "")
        secret = tmp_path / "a.key"
        secret.touch(0o600)
        secret.write_text(SECRET)
        ours = sign(load_secret_key(secret), b"x\n", "of a test")
        # Ed25519 draws nothing: the same key and file give minisign's own bytes.
        assert ours.splitlines()[1] == SIGNED.splitlines()[1]

    @needs_minisign
    def test_minisign_checks_what_medaug_signed(self, signed, keys) -> None:
        command = ["minisign", "-Vm", signed / "SHA256SUMS", "-p"]
        answer = subprocess.run(
            [*command, keys / "site.pub"], capture_output=True, text=True, check=True
        )
        assert "Trusted comment: medaug release " in answer.stdout
        wrong = subprocess.run([*command, keys / "other.pub"], capture_output=True, check=False)
        assert wrong.returncode != 0

    @needs_minisign
    def test_minisign_signs_with_our_key_what_medaug_checks(self, signed, keys, tmp_path) -> None:
        folder = Path(shutil.copytree(signed, tmp_path / "r"))
        command = ["minisign", "-Sm", folder / "SHA256SUMS", "-s", keys / "site.key"]
        subprocess.run(command, capture_output=True, check=True)
        assert verify_release(folder, keys / "site.pub").ok
