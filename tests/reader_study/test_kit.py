"""Nothing but what a picture shows may tell a reader what it is."""

import base64
import io
import json
import re
import stat
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decks import CLASSES, WINDOW, released
from PIL import Image

from medaug.domain import PatchSet, Release, Unit
from medaug.errors import RunFolderError, SettingsError
from medaug.reader_study.deck import Deck, deal
from medaug.reader_study.kit import page_of, write_kit


def dealt(release: Release, real: PatchSet, seed: int = 1, per_class: int = 30) -> Deck:
    return deal(release, real, WINDOW, per_class, seed, "not seen")


def study_in(page: str) -> dict[str, object]:
    found = re.search(r"^const study = (.*);$", page, re.MULTILINE)
    assert found
    document: dict[str, object] = json.loads(found[1])
    return document


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Type and, but for the pixels, content of every chunk."""
    at, found = 8, []
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        content = png[at + 8 : at + 8 + length]
        found.append((kind, content if kind != b"IDAT" else str(length).encode() + content[:2]))
        at += 12 + length
    return found


class TestThePage:
    def test_every_picture_is_alike_in_all_but_its_pixels(
        self, release: Release, real: PatchSet
    ) -> None:
        deck = dealt(release, real)
        items = study_in(page_of(deck))["items"]
        assert {tuple(item) for item in items} == {("id", "label", "png")}
        pngs = [base64.b64decode(item["png"]) for item in items]
        assert len({len(png) for png in pngs}) == 1
        assert len({str(chunks(png)) for png in pngs}) == 1
        kinds = [kind for kind, _ in chunks(pngs[0])]
        assert kinds == [b"IHDR", b"tEXt", b"IDAT", b"IEND"]
        assert b"MUST NOT LEAVE THE HOSPITAL" in chunks(pngs[0])[1][1]
        for png, shown in zip(pngs, deck.shown, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), shown[0])

    def test_it_names_no_answer(self, release: Release, real: PatchSet) -> None:
        """Real and synthetic the other way round: the same page, but for the pixels."""
        deck = dealt(release, real)
        turned = replace(deck, synthetic=~deck.synthetic, seed=0, release="f" * 64)
        assert page_of(deck) == page_of(turned)
        study = study_in(page_of(deck))
        assert set(study) == {"id", "format", "slices", "items"}

    def test_it_needs_no_network(self, release: Release, real: PatchSet) -> None:
        page = page_of(dealt(release, real))
        assert "default-src 'none'" in page
        assert not re.search(r"https?:|src=|href=|@import|fetch\(|XMLHttp|sendBeacon", page)

    def test_a_class_name_cannot_become_markup(self, release: Release, real: PatchSet) -> None:
        deck = dealt(release, real)
        deck = replace(deck, labels=("</script><b>",) * len(deck.labels))
        assert "</script><b>" not in page_of(deck)
        assert study_in(page_of(deck))["items"][0]["label"] == "</script><b>"

    def test_slices_lie_one_below_the_other(self, real: PatchSet) -> None:
        cubes = replace(real, images=np.repeat(real.images, 3, axis=1)[:, None], masks=None)
        deck = dealt(released((1, 3, 16, 16)), cubes)
        study = study_in(page_of(deck))
        assert study["slices"] == 3
        png = base64.b64decode(study["items"][0]["png"])
        assert Image.open(io.BytesIO(png)).size == (16, 48)


class TestTheDeal:
    def test_a_coin_for_each_and_a_patient_once(self, release: Release, real: PatchSet) -> None:
        decks = [dealt(release, real, seed) for seed in range(60)]
        shares = np.array([deck.synthetic.mean() for deck in decks])
        # Counts vary from deck to deck as coins do: sd 0.5 / √60 = 0.065.
        assert 0.04 < shares.std() < 0.09
        assert abs(shares.mean() - 0.5) < 0.04
        # Neither the class nor the place in the order goes with the kind.
        kinds = np.concatenate([deck.synthetic for deck in decks])
        labels = np.concatenate([np.array(deck.labels) == CLASSES[0] for deck in decks])
        places = np.concatenate([np.arange(len(deck.labels)) for deck in decks])
        assert abs(np.corrcoef(kinds, labels)[0, 1]) < 0.06
        assert abs(np.corrcoef(kinds, places)[0, 1]) < 0.06

        deck = decks[0]
        flat = deck.shown.reshape(len(deck.shown), -1).std(axis=1) == 0
        np.testing.assert_array_equal(flat, deck.synthetic)
        # Synthetic patches are filled with their row in the release: order and labels are those.
        greys = deck.shown[deck.synthetic][:, 0, 0, 0]
        assert (np.diff(greys.astype(int)) < 0).any()
        first = np.rint((WINDOW.to_signed(np.array([40.0])) + 1) * 127.5)
        expected = [CLASSES[int(grey >= first[0])] for grey in greys]
        assert [deck.labels[at] for at in np.flatnonzero(deck.synthetic)] == expected
        rows = [
            np.flatnonzero((grey_of(real) == shown).all(axis=(1, 2, 3)))
            for shown in deck.shown[~deck.synthetic]
        ]
        shown = [real.patients[row] for (row,) in rows]
        assert len(set(shown)) == len(shown)

    def test_a_seed_gives_one_deck(self, release: Release, real: PatchSet) -> None:
        first, again, other = (dealt(release, real, seed) for seed in (1, 1, 2))
        assert page_of(first) == page_of(again)
        assert first.study != other.study

    def test_what_does_not_fit(self, release: Release, real: PatchSet) -> None:
        other = replace(real, unit=Unit.ARBITRARY, modality="MR", images=real.images[..., :8])
        with pytest.raises(SettingsError) as refused:
            dealt(release, other)
        faults = [fault.where.rpartition(": ")[2] for fault in refused.value.faults]
        assert faults == ["shape", "unit", "modality"]
        with pytest.raises(SettingsError, match="20 or more"):
            dealt(release, real, per_class=9)


def grey_of(real: PatchSet) -> np.ndarray:
    return np.rint((WINDOW.to_signed(np.rint(real.images)) + 1) * 127.5).astype(np.uint8)


class TestTheKey:
    def test_it_is_apart_and_private(
        self, release: Release, real: PatchSet, tmp_path: Path
    ) -> None:
        deck = dealt(release, real)
        folder, key = tmp_path / "readers", tmp_path / "key.json"
        write_kit(deck, folder, key)
        assert {path.name for path in folder.iterdir()} == {"index.html", "README.txt"}
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert "stays\ninside the hospital" in (folder / "README.txt").read_text()
        document = json.loads(key.read_text())
        kinds = [item["kind"] == "synthetic" for item in document["items"].values()]
        assert kinds == deck.synthetic.tolist()
        text = key.read_text()
        assert not any(patient.token in text for patient in real.patients)
        for path in folder.iterdir():
            assert str(deck.seed) != path.read_text()
            assert deck.release not in path.read_text()

    def test_what_is_in_the_way(self, release: Release, real: PatchSet, tmp_path: Path) -> None:
        deck, folder = dealt(release, real), tmp_path / "readers"
        with pytest.raises(RunFolderError, match="holds the answers"):
            write_kit(deck, folder, folder / "sub" / "key.json")
        assert not folder.exists()
        folder.mkdir()
        (folder / "a").touch()
        with pytest.raises(RunFolderError) as refused:
            write_kit(deck, folder, folder / "a")
        assert len(refused.value.faults) == 3
