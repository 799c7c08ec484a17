"""The road by hand: every station as a function, for those who want only some of them.

    python pipelines/by_hand.py demo/phantom by_hand [key=value ...]

reads the phantom cohort that ``medaug demo`` made and ends with a release and a verdict.
"""

import sys
from pathlib import Path

import medaug
from medaug.domain import LesionPatch
from medaug.patching.store import PatchStoreWriter


def main(data: Path, out: Path, *changes: str) -> None:
    """Walk from the files in ``data`` to a release and a verdict in ``out``."""
    config = medaug.load_pipeline("phantom", changes)
    window = medaug.Window(*config.generator.window)

    # Files → volumes and lesions → patches. Volumes decode only the slices that a patch needs.
    source = medaug.scan(config.sources, data, medaug.load_site_key(config.site_key))
    with PatchStoreWriter(out / "patches.h5") as store:
        for case in source.cases():
            for found in medaug.extract_patches(case, config.patching):
                # A lesion outside the limits comes back as a SkippedLesion with its reason.
                if isinstance(found, LesionPatch):
                    store.append(found)
    patches = medaug.read_patches(out / "patches.h5")

    # Patients → training, tuning, test. The generator learns from the first part; the second only
    # says which of its weights are kept.
    split = medaug.split_patients(patches, config.cohort.fractions, config.seed)
    training, tuning = split.part(patches, "training"), split.part(patches, "tuning")
    judge = medaug.judged_by(tuning, window)
    generator = medaug.train_generator(
        training, config.generator, config.seed, out / "generator", tuning=judge
    )

    # Candidates → gate → release. A refusal raises DisclosureError with its reasons.
    review = medaug.review(
        generator,
        config.privacy.policy(),
        training=training,
        calibration=tuning,
        rescale=medaug.Rescale.of(generator.unit, window),
        window=window,
        mm_per_pixel=generator.mm_per_pixel,
        seed=config.seed,
    )
    release = review.release_or_raise()
    medaug.write_release(
        release, out / "release", config.export, name="by_hand", seed=config.seed, window=window
    )

    # Does it help, on patients that nobody trained on?
    test = medaug.HeldOut(split.part(patches, "test"), lineage=(generator.record,))
    evaluation = medaug.evaluate(
        training, tuning, test, release, config.evaluation, window, config.seed
    )
    print(evaluation.verdict.sentence)  # noqa: T201 - an example talks to its reader


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
