"""Station two: patients are dealt to the parts."""

from __future__ import annotations

from medaug.atomic import write_json
from medaug.domain.cohort import PARTS
from medaug.errors import CohortError, Fault
from medaug.road import private
from medaug.road.run import Run


def split(run: Run) -> None:
    """Leave who trains, tunes and judges; refuse a cohort where somebody has withdrawn."""
    config, patches = run.config, run.patches
    dealt = private.deal_patients(config, patches)
    parts = {}
    for part in PARTS:
        here = dealt.part(patches, part)
        patients = here.patients_per_class()
        parts[part] = {
            "patients": [key.token for key in here.patient_order],
            "patches": len(here),
            "classes": {
                label: {"patients": patients[label], "patches": len(here.of_class(label))}
                for label in patches.classes
            },
        }
    refuse_withdrawn(run)
    document = {"seed": config.seed, "fractions": list(config.cohort.fractions), "parts": parts}
    write_json(run.folder / "split.json", document)


def refuse_withdrawn(run: Run) -> None:
    """Before anything is learnt: nobody who has withdrawn may stand in any part."""
    from medaug.site import ledger_path, open_ledger

    config = run.config
    if not ledger_path(config.ledger, config.site_key).exists():
        return
    ledger = open_ledger(config.ledger, config.site_key)
    if gone := ledger.withdrawn(key.token for key in run.patches.patient_order):
        raise CohortError(
            *(
                Fault(
                    f"patient {token}",
                    "has withdrawn: see the ledger of this site",
                    "patients who have not",
                    "take the patient's files out of the sources and run with --redo",
                )
                for token in sorted(gone)
            )
        )
