"""Station five: does the release help, on patients that nobody trained on?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medaug.atomic import write_json
from medaug.domain import HeldOut, PatchSet
from medaug.domain.cohort import PARTS
from medaug.road.cutting import extract
from medaug.road.refitting import cross_validated
from medaug.road.run import Run

if TYPE_CHECKING:
    from medaug.evaluation.bench import External
    from medaug.evaluation.protocol import Evaluation
    from medaug.evaluation.settings import EvaluationSettings


def evaluate(run: Run) -> None:
    """Leave the verdict with its tasks, likeness, and folds or external sets."""
    from medaug.evaluation import protocol
    from medaug.evaluation.features import extractor
    from medaug.evaluation.settings import SearchSettings
    from medaug.evaluation.tasks import evaluate_lesions
    from medaug.evaluation.unseen import likeness_to_unseen

    settings = run.config.evaluation.as_asked()
    if settings.fidelity.enabled:
        # A weight file that cannot be used is refused before any classifier is trained.
        extractor(settings.fidelity.features, settings.fidelity.features_sha256)
    _tell(run, None)
    outside = list(external(run))
    training, tuning, test = (run.split.part(run.patches, part) for part in PARTS)

    record = run.generator.record

    def judged(patches: PatchSet, settings: EvaluationSettings, folder: Path) -> Evaluation:
        return protocol.evaluate(
            training,
            tuning,
            HeldOut(patches, lineage=(record,)),
            run.release,
            settings,
            run.window,
            run.config.seed,
            run.progress,
            folder,
        )

    evaluation = judged(test, settings, run.folder / "evaluation")
    # After the verdict, and nothing is chosen by it: the test patients may be looked at again.
    tasks = evaluate_lesions(
        training,
        tuning,
        HeldOut(test, lineage=(record,)),
        run.release,
        settings,
        run.window,
        run.config.seed,
        run.progress,
        folder=run.folder / "evaluation",
    )
    alike = likeness_to_unseen(
        run.patches,
        run.split,
        run.release,
        settings,
        run.window,
        run.config.seed,
        run.progress,
        masks=run.release.masks,
    )
    document = evaluation.document() | {"tasks": tasks, "fidelity": alike}
    if settings.folds:
        document["folds"] = cross_validated(
            run.config, run.patches, run.folder / "folds", run.progress, outside, run.release
        )
    else:
        # The same seeds give the same classifiers; curve and search have been made.
        once = settings.model_copy(update={"dose_curve": (), "search": SearchSettings()})
        document["external"] = []
        for one in outside:
            found = judged(one.patches, once, run.folder / "external" / one.name / "evaluation")
            shown = {key: found.document()[key] for key in ("test", "arms", "comparisons")}
            document["external"].append({"name": one.name, **shown})
    write_json(run.folder / "evaluation.json", document)
    _tell(run, document)


def _tell(run: Run, document: dict[str, Any] | None) -> None:
    """Let the release say its verdict, none while it is sought, or none with noise at all."""
    from medaug.export.entries import verdict_of
    from medaug.export.verdict import state_verdict

    if run.config.privacy.mode == "empirical":
        verdict = None if document is None else verdict_of(document)
        state_verdict(run.folder / "release", verdict, run.config.export.sign_with)


def external(run: Run) -> Iterator[External]:
    """The test sets of other sites, read and cut as the pipeline's own."""
    from medaug.evaluation.bench import External
    from medaug.evaluation.nested import refuse_external

    for one in run.config.evaluation.external:
        sources = one.sources or run.config.sources
        config = run.config.model_copy(update={"data": one.data, "sources": sources})
        elsewhere = replace(run, config=config, folder=run.folder / "external" / one.name)
        extract(elsewhere)
        external = External(one.name, elsewhere.patches)
        refuse_external(run.patches, external)
        yield external
