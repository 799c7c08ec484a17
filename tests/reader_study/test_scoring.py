"""What readers hand back is read strictly and scored exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medaug.errors import ReaderError
from medaug.reader_study.answers import Key, read_answers, read_key
from medaug.reader_study.scoring import exact, over_readers, score

KEY = Key(
    "abc",
    {f"{at:04d}": ("real", "synthetic")[at % 2] for at in range(40)},
    {f"{at:04d}": ("cyst", "tumour")[at < 10] for at in range(40)},
)


def handed_back(path: Path, **changes: Any) -> Path:
    document = {
        "format": "medaug reader study answers 1",
        "study": "abc",
        "reader": "R1",
        "answers": dict(KEY.kinds),
    }
    path.write_text(json.dumps(document | changes))
    return path


class TestIntervals:
    @pytest.mark.parametrize(("right", "count"), [(0, 20), (7, 20), (20, 20), (150, 301)])
    def test_of_one_reader(self, right: int, count: int) -> None:
        theirs = stats.binomtest(right, count).proportion_ci(method="exact")
        ours = exact(right, count)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))

    def test_of_several_covers_what_it_should(self) -> None:
        """Readers fall for the same patches: taken as independent, the interval would be short."""
        rng = np.random.default_rng(0)
        covered, naive = 0, 0
        for _ in range(400):
            easy = rng.beta(1.2, 0.8, 50)  # mean 0.6
            right = rng.uniform(size=(4, 50)) < easy
            found = over_readers(right)
            covered += found.low <= 0.6 <= found.high
            alone = exact(right.sum(), right.size)
            naive += alone.low <= 0.6 <= alone.high
        assert covered >= 0.93 * 400
        assert naive < 0.9 * 400

    def test_all_right_is_no_certainty(self) -> None:
        found = over_readers(np.ones((3, 30), bool))
        assert found.high == 1
        assert found.low == pytest.approx(exact(30, 30).low)


class TestScore:
    def test_figures(self, tmp_path: Path) -> None:
        wrong = dict.fromkeys(KEY.kinds, "real")
        files = [
            handed_back(tmp_path / "a"),
            handed_back(tmp_path / "b", reader="R2", answers=wrong),
        ]
        found = score(KEY, read_answers(files, KEY))
        first, second = found["readers"]
        assert (first["right"], first["accuracy"]["value"]) == (40, 1)
        assert (second["right"], second["p"]) == (20, 1)
        assert second["recognised"]["real"]["value"] == 1
        assert second["recognised"]["synthetic"]["value"] == 0
        assert second["per_class"]["tumour"]["value"] == 0.5
        assert found["all"]["accuracy"]["value"] == 0.75
        assert found["all"]["accuracy"]["low"] < 0.75 < found["all"]["accuracy"]["high"]
        assert score(KEY, read_answers(files[:1], KEY))["all"] is None

    def test_unfinished_only_if_asked(self, tmp_path: Path) -> None:
        few = dict(list(KEY.kinds.items())[:12])
        file = handed_back(tmp_path / "a", answers=few)
        with pytest.raises(ReaderError, match=r"(?s)not answered.*23 more.*--unfinished"):
            read_answers([file], KEY)
        (reader,) = score(KEY, read_answers([file], KEY, unfinished=True))["readers"]
        assert (reader["answered"], reader["right"]) == (12, 12)


class TestRefused:
    def test_every_fault_of_every_file(self, tmp_path: Path) -> None:
        files = [
            handed_back(tmp_path / "a"),
            handed_back(tmp_path / "twice"),
            handed_back(
                tmp_path / "bad",
                study="other",
                reader="Dr. Who",
                answers={**KEY.kinds, "0001": "maybe", "9999": "real"},
            ),
            handed_back(tmp_path / "format", format="something"),
            handed_back(tmp_path / "none", answers=["real"]),
            tmp_path / "absent",
        ]
        (tmp_path / "json").write_text('{"reader": "R1", "reader": "R2"}')
        with pytest.raises(ReaderError) as refused:
            read_answers([*files, tmp_path / "json"], KEY)
        where = [fault.where for fault in refused.value.faults]
        assert where == [
            "twice",
            "bad: study",
            "bad: reader",
            "bad: answers.9999",
            "bad: answers.0001",
            "format: format",
            "none: answers",
            "absent",
            "json",
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            '{"format": "medaug reader study key 1", "study": "a", "items": {}}',
            '{"format": "medaug reader study key 1", "items": {"1": {"kind": "x", "class": ""}}}',
        ],
    )
    def test_no_key(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "key.json").write_text(text)
        with pytest.raises(ReaderError):
            read_key(tmp_path / "key.json")
