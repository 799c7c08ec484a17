"""A reader goes through the page in Chromium, stops, goes on, and hands the answers back."""

import time
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from decks import WINDOW

from medaug.domain import PatchSet, Release
from medaug.reader_study.answers import read_answers, read_key
from medaug.reader_study.deck import deal
from medaug.reader_study.kit import write_kit
from medaug.reader_study.scoring import score


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_from_the_first_click_to_the_score(
    release: Release, real: PatchSet, tmp_path: Path
) -> None:
    deck = deal(release, real, WINDOW, 10, 1, "not seen")
    write_kit(deck, tmp_path / "readers", tmp_path / "key.json")
    page, profile = tmp_path / "readers" / "index.html", tmp_path / "profile"
    right = ["s" if synthetic else "r" for synthetic in deck.synthetic]
    with Browser(profile, tmp_path) as browser:
        browser.open(page)
        browser.click("#reader")
        browser.type("R1")
        browser.click("#enter button")
        assert browser.text("place") == "Patch 0001 of 20"
        browser.press(right[0])
        browser.click("#real" if right[1] == "r" else "#synthetic")
        browser.press("ArrowLeft")
        pressed = "document.querySelector('[aria-pressed=true]').id"
        assert browser.ask(pressed) == {"r": "real", "s": "synthetic"}[right[1]]
        assert browser.text("count") == "2 of 20 answered, reader R1"
    with Browser(profile, tmp_path) as browser:
        browser.open(page)
        browser.click("#reader")
        browser.type("R1")
        browser.click("#enter button")
        assert browser.text("place") == "Patch 0003 of 20"
        for key in right[2:]:
            browser.press(key)
        assert browser.ask("document.getElementById('done').hidden") is False
        browser.click("#save")
        saved, until = tmp_path / f"answers-{deck.study}-R1.json", time.monotonic() + 20
        while not saved.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)
    key = read_key(tmp_path / "key.json")
    (reader,) = score(key, read_answers([saved], key))["readers"]
    assert (reader["reader"], reader["right"], reader["answered"]) == ("R1", 20, 20)
