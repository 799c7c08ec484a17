"""What differential privacy costs in use: one cohort through every mode, verdict and likeness.

    python benchmarks/privacy/utility.py phantom --data FOLDER --out OUT
    python benchmarks/privacy/utility.py mammography_masses --data FOLDER --out OUT

Each arm is a whole run (``medaug.pipeline``) in a folder of its own with a site key of its own, so
that no arm spends another's budget; what is finished is not done again. ``OUT/utility.csv`` holds a
row for each arm and class: what the release cost, the classifiers' AUC, the verdict, and the
figures of likeness beside those of real patients against other real patients.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from medaug.config import load_pipeline
from medaug.errors import DisclosureError, InputError
from medaug.pipeline import run_pipeline

ARMS: dict[str, tuple[str, ...]] = {
    "empirical": (),
    **{
        f"dp-vote {epsilon}": ("privacy.mode=dp-vote", f"privacy.epsilon={epsilon}")
        for epsilon in (1, 3, 8)
    },
    # The discriminator that differential privacy allows, as narrow as it comes.
    "dp-sgd 8": (
        "privacy.mode=dp-sgd",
        "privacy.epsilon=8",
        "generator.loss=cross-entropy",
        "generator.penalty=0",
        "generator.augment=0",
        "generator.width=4",
    ),
}


def main() -> None:
    """Run the arms that are not there yet, then write the table of all that are."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("pipeline")
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    ask.add_argument("--set", dest="settings", nargs="*", default=[])
    given = ask.parse_args()
    refused: dict[str, str] = {}
    for arm in given.arms:
        folder = given.out / arm.replace(" ", "-")
        chosen = [*given.settings, *ARMS[arm], f"site_key={folder.parent / (folder.name + '.key')}"]
        try:
            config = load_pipeline(given.pipeline, chosen, data=given.data)
            run_pipeline(config, folder)
        except (DisclosureError, InputError) as error:
            refused[arm] = str(error)
            print(f"{arm}: refused\n{error}\n")
    with (given.out / "utility.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["arm", "class", "figure", "value", "low", "high", "real"])
        for arm in ARMS:
            folder = given.out / arm.replace(" ", "-")
            if (folder / "evaluation.json").is_file():
                table.writerows([arm, *row] for row in rows_of(folder))
            elif arm in refused:
                table.writerow([arm, "", "refused", refused[arm].splitlines()[0]])


def rows_of(folder: Path) -> list[list[Any]]:
    """(class, figure, value, low, high, real against real) of a finished run."""
    paper = json.loads((folder / "release" / "release.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    rows: list[list[Any]] = [["", "verdict", found["verdict"]["word"]]]
    if paper.get("cost"):
        rows += [["", name, paper["cost"][name]] for name in ("epsilon", "delta", "mu")]
    for arm in found["arms"]:
        auc = arm["auc"]
        rows.append(["", f"AUC {arm['classifier']}, {arm['arm']}", *ends(auc)])
    for one in found["comparisons"]:
        name = f"difference {one['classifier']}, {one['arm']} - {one['baseline']}"
        rows.append(["", name, *ends(one["difference"])])
    for group in found["fidelity"].get("groups", ()):
        label = group["label"] or "all"
        for figure in group["figures"]:
            real = round(figure["baseline"]["value"], 4)
            rows.append([label, figure["name"], *ends(figure["synthetic"]), real])
        test = group["two_sample"]
        if test is not None:
            rows.append([label, "told from real", round(test["accuracy"], 4)])
    return rows


def ends(interval: dict[str, Any]) -> list[float]:
    """Value, low, high."""
    return [round(float(interval[name]), 4) for name in ("value", "low", "high")]


if __name__ == "__main__":
    main()
