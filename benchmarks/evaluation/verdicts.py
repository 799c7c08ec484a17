"""How often is the verdict wrong, how often is it right? 500 simulated studies of each kind.

    python benchmarks/evaluation/verdicts.py --out FOLDER [--studies 500] [--kinds "5 x 5" ...]

Nothing is trained: `medaug.bench.verdicts` draws scores whose truth is known. Under the null all
five arms are equally good; the four comparisons of a report are corrected by Holm's method. Then
the median of the smallest differences that those studies stated is planted in the main arm, in
200 other studies. One JSON file per kind; a kind whose file is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from medaug.atomic import write_json
from medaug.bench.verdicts import World, tally

KINDS = {
    "5 x 5": World(),
    "5 x 5, dealt anew": World(redealt=True),
    "3 x 3, 60 patients": World(patients=60, folds=3, seeds=3),
    "split": World(patients=60, folds=1, seeds=3, fold_luck=0.0, influence=0.0),
    "split, unseen luck": World(patients=60, folds=1, seeds=3),
}
"""5 x 5: folds x seeds, 212 patients. The last two are single splits with 60 test patients: one
whose training patients and generator are taken as given, one where they are luck too."""
PLANTED = 200


def main() -> None:
    """Judge the studies of every kind and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.kinds:
        path = asked.out / f"{name.replace(' ', '_').replace(',', '')}.json"
        if not path.exists():
            began = time.monotonic()
            null = tally(KINDS[name], range(asked.studies))
            gain = KINDS[name].gain_of(null.smallest)
            planted = tally(KINDS[name], range(asked.studies, asked.studies + PLANTED), gain)
            figures = {"null": asdict(null), "planted": asdict(planted)}
            write_json(path, {**figures, "seconds": round(time.monotonic() - began)})
        print(name, json.dumps(json.loads(path.read_text()), indent=1))


if __name__ == "__main__":
    main()
