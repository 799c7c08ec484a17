"""The verdict of the evaluation, added to a release that stands already.

An evaluation needs the finished release, so the verdict comes last. It is written into
``release.json`` and ``DATASHEET.md``, and the digests and their signature are made again: whoever
receives the folder has one document under one signature, and no paper that may be lost on the way.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from medaug.atomic import replacing
from medaug.errors import DisclosureError, Fault, ReaderError
from medaug.export.datasheet import DATASHEET
from medaug.export.entries import Verdict, events_of
from medaug.export.manifest import MANIFEST, Manifest, read_manifest
from medaug.export.signing import load_secret_key
from medaug.export.sums import SIGNATURE, SUMS, entries_of
from medaug.export.verify import verify_release
from medaug.export.write import refuse_words, write_papers


def state_verdict(folder: Path, verdict: Verdict | None, sign_with: Path | None = None) -> None:
    """Let the papers of a release say ``verdict``, or nothing of an evaluation where it is None.

    The folder is replaced as a whole; pictures are linked, not copied, where the disk can. The same
    release and verdict give the same bytes, and None gives those that `write_release` wrote.

    Args:
        folder: a release that verifies.
        verdict: see `medaug.export.entries.verdict_of`.
        sign_with: secret key of the signature; without it the release is not signed any more.

    Raises:
        DisclosureError: with differential privacy: a verdict is made from patients' data without
            noise. Or if the verdict says what nobody may say.
        ReaderError: if the release does not verify; then nothing is signed.
        SettingsError: if the key cannot sign.
    """
    manifest = read_manifest(folder)
    if manifest.evaluation == verdict:
        return
    if manifest.cost is not None:
        raise DisclosureError(
            "a verdict is made from patients' data without noise: with differential privacy it "
            "stays inside"
        )
    if problems := verify_release(folder).problems:
        raise ReaderError(*(Fault(str(folder), problem) for problem in problems))
    key = None if sign_with is None else load_secret_key(sign_with)
    ran = [check.name for check in manifest.checks]
    amended = Manifest.model_validate(
        dict(manifest)
        | {
            "evaluation": verdict,
            "events": events_of(None, ran, evaluated=verdict is not None),
        }
    )
    refuse_words(amended)
    with replacing(folder) as temporary:
        _link(folder, temporary)
        write_papers(amended, temporary, key)


def _link(folder: Path, to: Path) -> None:
    """Everything but the papers under a second name; a copy where the disk knows no such links."""
    papers = {MANIFEST, DATASHEET, SUMS, SIGNATURE}
    for name in sorted(set(entries_of(folder)[0]) - papers):
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(folder / name, target)
        except OSError:
            shutil.copyfile(folder / name, target)
