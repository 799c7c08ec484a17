"""A run's generator leaves, where its privacy cost is finite or the policy says so in words.

What is asked, all at once: whether the gate released samples of these very weights; whether the
site's ledger verifies and knows that release; with differential privacy, whether its noise was
charged; whether a patient has withdrawn. The ledger records the sharing before a file is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medaug.errors import DisclosureError, Fault, RunFolderError, SettingsError
from medaug.export.manifest import Manifest, read_manifest
from medaug.export.sharing.shared import Grounds, SharedGenerator

if TYPE_CHECKING:
    from medaug.privacy.ledger import Ledger

Form = Literal["monai-bundle", "medigan"]
FORMS: tuple[Form, ...] = ("monai-bundle", "medigan")


def share_generator(
    run: Path,
    form: Form,
    folder: Path,
    site_key: Path | None = None,
    ledger: Path | None = None,
) -> Path:
    """Write the generator of ``run`` to ``folder``.

    Args:
        run: a run folder with a release.
        form: what it is written as.
        folder: new or empty.
        site_key: of the run's site, as in its pipeline; default: of the user's account.
        ledger: of the run's site; default: beside the key.

    Returns:
        ``folder``.

    Raises:
        DisclosureError: the generator may not leave; with every reason. Nothing is written.
        RunFolderError: the run is not complete, or something is in ``folder``.
        SettingsError: the form is unknown, no ledger is there, or the generator draws with a
            simulator that cannot be shared.
    """
    from medaug.export.sharing.files import refuse_full
    from medaug.export.sharing.medigan import write_medigan
    from medaug.export.sharing.monai_bundle import write_bundle
    from medaug.site import ledger_path, open_ledger

    if form not in FORMS:
        raise SettingsError(Fault("--as", repr(form), ", ".join(FORMS)))
    refuse_full(folder)
    documents = _documents(run)
    manifest = read_manifest(run / "release")
    path = ledger_path(ledger, site_key)
    if not path.is_file():
        raise SettingsError(
            Fault(
                str(path),
                "no ledger here: what the generator cost cannot be looked up",
                "the ledger that the run wrote",
                "add --site-key PATH or --ledger PATH, as the pipeline file has them",
            )
        )
    book = open_ledger(ledger, site_key)
    reasons = [*_reasons(run, documents, manifest, book)]
    reason = documents["review/decision.json"].get("share_generator")
    try:
        grounds = Grounds(manifest.cost, None if manifest.cost else reason)
    except DisclosureError as refusal:
        raise DisclosureError(*refusal.reasons, *reasons) from None
    if reasons:
        raise DisclosureError(*reasons)
    shared = _shared(run, documents, manifest, grounds)
    book.share(manifest.pixels_digest, manifest.generator_digest, form, grounds.sentence)
    write = write_bundle if form == "monai-bundle" else write_medigan
    return write(shared, _sampler(shared), folder)


def _documents(run: Path) -> dict[str, Any]:
    """What the run says of itself."""
    from medaug.generators.folder import CONFIG, WEIGHTS

    names = (f"generator/{CONFIG}", "review/decision.json")
    wanted = (*names, f"generator/{WEIGHTS}", "release/release.json")
    if missing := [name for name in wanted if not (run / name).is_file()]:
        raise RunFolderError(
            *(
                Fault(name, "not there", "a run that released", "medaug release PIPELINE --out RUN")
                for name in missing
            )
        )
    return {name: json.loads((run / name).read_text(encoding="utf-8")) for name in names}


def _reasons(
    run: Path, documents: dict[str, Any], manifest: Manifest, book: Ledger
) -> Iterator[str]:
    """Why the generator may not leave, but for its cost."""
    from medaug.generators.folder import WEIGHTS, sha256
    from medaug.privacy.ledger_chain import Anchor

    decision, record = documents["review/decision.json"], documents["generator/config.json"]
    if decision["outcome"] != "released":
        yield "The gate refused the release of this run; its generator does not leave either."
    if sha256(run / "generator" / WEIGHTS) != manifest.generator_digest:
        yield "The release of this run was made with other weights than are in its generator/."
    place = manifest.ledger
    yield from book.problems(None if place is None else Anchor(place.entry, place.head))
    secret = [one for one in record["record"].get("ancestors", ()) if not one["public"]]
    if manifest.cost is not None:
        if secret:
            yield (
                "The generator began from weights that are not declared public: what they cost is "
                "not in this release's epsilon."
            )
        if not _charged(run, manifest, book):
            yield (
                "The ledger holds no charge for the noise that this generator was trained with: "
                "its cost is not known here."
            )


def _charged(run: Path, manifest: Manifest, book: Ledger) -> bool:
    """Whether the very drawing of noise stands in the ledger, with the figures of the release."""
    noise = run / "generator" / "noise.json"
    if manifest.cost is None or not noise.is_file():
        return False
    number = json.loads(noise.read_text(encoding="utf-8"))["run"]
    cost = asdict(manifest.cost)
    event = {name: cost[name] for name in ("mechanism", "sigma", "rounds", "rate")}
    wanted = event | {"noise": number}
    return any(
        entry.kind == "reserve" and entry.body["event"] == wanted for entry in book.entries()
    )


def _shared(
    run: Path, documents: dict[str, Any], manifest: Manifest, grounds: Grounds
) -> SharedGenerator:
    """The allow-listed part of the generator."""
    from safetensors.numpy import load_file

    from medaug.generators.folder import WEIGHTS
    from medaug.generators.settings import GeneratorSettings

    config, image = documents["generator/config.json"], manifest.image
    described: dict[str, Any] = {
        "sampler": "medaug generator 1",
        "classes": list(config["classes"]),
        "shape": list(image.shape),
        "window": list(image.window),
        "unit": image.unit,
        "mm_per_pixel": image.mm_per_pixel,
        "draws_masks": manifest.masks,
    }
    preset = config["settings"]["preset"]
    votes = manifest.mode == "dp-vote"
    if votes:
        described |= _of_votes(config, manifest)
    elif preset == "simulate-and-refine":
        raise SettingsError(
            Fault(
                "generator.preset",
                f"{preset}, which refines what a simulator renders",
                "a generator that draws by itself, or privacy.mode: dp-vote",
                "share the release: a refiner is of no use without the renderer and its settings",
            )
        )
    else:
        described |= GeneratorSettings.model_validate(config["settings"]).drawing()
    return SharedGenerator(
        name=manifest.name,
        kind="votes" if votes else "network",
        grounds=grounds,
        described=described,
        tensors=load_file(run / "generator" / WEIGHTS),
        modality=image.modality,
        licence=manifest.licence,
        medaug=manifest.medaug,
        release=manifest.pixels_digest,
    )


def _of_votes(config: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    from medaug.domain import Unit
    from medaug.road.private import voted_kinds

    image = manifest.image
    render = config["settings"].get("render", {})
    kinds = voted_kinds(render, config["classes"], image.modality, Unit(image.unit))
    return {"kinds": kinds, "modality": image.modality, "draws_masks": True}


def _sampler(shared: SharedGenerator) -> str:
    """Source of the sampler that goes with it."""
    if shared.kind == "votes":
        from medaug.road.voted_sampling import SCRIPT

        return SCRIPT
    source = resources.files("medaug.generators") / "standalone.py"
    return source.read_text(encoding="utf-8")
