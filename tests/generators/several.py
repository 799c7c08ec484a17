"""Run in a process of its own by test_processes: trains alone or beside another process.

Arguments: number of processes, then folder and preset, again and again.
"""

import sys
from pathlib import Path

from medaug.generators.processes import together
from medaug.generators.settings import GeneratorSettings
from medaug.generators.training import train_generator

PRESETS = {
    "small-data": {"augment_target": 0.3},
    "conditional": {},
    "radford-2015": {"augment": 0.5},
    "frid-adar-2018": {},
}


def settings(preset: str) -> GeneratorSettings:
    small = {"width": 4, "latent": 8, "batch": 8, "images": 96, "window": (-100, 250)}
    often = {"penalty_every": 3, "log_every": 1, "checkpoint_every": 5, "judge_every": 4}
    often |= {"device": "cpu", "memorised_below": 0, "least_diversity": 0, "min_patients": 1}
    often |= PRESETS[preset]
    return GeneratorSettings(preset=preset, **small, **often)


def main() -> None:
    from interrupted import patches, tuning  # found only where this is run as a script

    devices, *runs = sys.argv[1:]
    with together(settings("small-data"), int(devices)) as processes, processes.training():
        for folder, preset in zip(runs[::2], runs[1::2], strict=True):
            own = settings(preset)
            train_generator(patches(), own, 3, Path(folder), tuning=tuning(), processes=processes)


if __name__ == "__main__":
    main()
