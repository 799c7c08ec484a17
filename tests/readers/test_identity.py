import os
import stat
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medaug.errors import ReaderError
from medaug.readers.identity import (
    case_token,
    lesion_uid,
    load_site_key,
    patient_key,
    picture_key,
)

KEY = bytes(range(32))


class TestTheSiteKey:
    def test_is_made_once_and_for_the_owner_alone(self, tmp_path):
        path = tmp_path / "new" / "site.key"
        key = load_site_key(path)
        assert len(key) == 32
        assert load_site_key(path) == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in path.parent.iterdir()] == ["site.key"]
        assert load_site_key(tmp_path / "other.key") != key

    def test_lies_in_the_users_data_folder_by_default(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        key = load_site_key()
        assert load_site_key(tmp_path / "medaug" / "site.key") == key

    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
    def test_that_others_may_use_is_refused(self, tmp_path, mode):
        path = tmp_path / "site.key"
        load_site_key(path)
        path.chmod(mode)
        with pytest.raises(ReaderError, match=f"others than the owner.*mode {mode:04o}"):
            load_site_key(path)

    @pytest.mark.parametrize("content", ["", "ab", "z" * 64, "ab" * 33, "\u00e9" * 64])
    def test_that_is_no_key_is_refused_without_showing_it(self, tmp_path, content):
        path = tmp_path / "site.key"
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        with pytest.raises(ReaderError, match="does not hold a key") as caught:
            load_site_key(path)
        if content:
            assert content not in str(caught.value)

    def test_is_one_key_however_many_make_it_at_once(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(load_site_key, [tmp_path / "site.key"] * 32))
        assert len(keys) == 1


class TestTokens:
    @given(st.text(min_size=1), st.text(min_size=1))
    def test_are_equal_only_for_equal_texts(self, one, other):
        same = patient_key(KEY, one) == patient_key(KEY, other)

        def plain(text):
            return unicodedata.normalize("NFC", text.strip())

        assert same == (plain(one) == plain(other))

    @given(st.text())
    def test_of_different_uses_are_never_equal(self, text):
        tokens = [
            patient_key(KEY, text).token,
            picture_key(KEY, text).token,
            case_token(KEY, text),
            f"{int(lesion_uid(KEY, text).removeprefix('2.25.')):032x}",
        ]
        assert len(set(tokens)) == 4

    def test_cannot_be_recomputed_without_the_key(self):
        assert patient_key(KEY, "4711") != patient_key(bytes(32), "4711")

    def test_are_hmac_sha256(self):
        # printf 'medaug/patient\\0004711' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f
        assert patient_key(KEY, "4711").token == "b7aa48ac86127eab178c5238b98b587e"

    def test_a_tracking_uid_is_a_uid(self):
        uid = lesion_uid(KEY, "anything")
        assert uid.startswith("2.25.")
        assert len(uid) <= 64
        assert int(uid.removeprefix("2.25.")) < 2**128

    def test_a_short_key_is_a_fault(self):
        with pytest.raises(ValueError, match="32 bytes"):
            patient_key(b"short", "4711")
