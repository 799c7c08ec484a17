"""A task as the Medical Segmentation Decathlon [1]_ and nnU-Net [2]_ keep it → cases.

``dataset.json`` says which files belong together and what the values of a label map mean. The
Decathlon lists every pair under ``training`` and has a case's channels in one file of four
dimensions; nnU-Net (version 2) names the ending of the files, finds the pairs by name, and has
one file per channel. The texts of the document (description, reference) are not looked at.

.. [1] http://medicaldecathlon.com
.. [2] https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from medaug.errors import Fault, ReaderError
from medaug.progress import Progress
from medaug.readers.files import Refusal, SourceFile, search, stray
from medaug.readers.found import Found
from medaug.readers.oddities import UNREADABLE
from medaug.readers.settings import MsdSource
from medaug.readers.tables import shortened
from medaug.readers.volumes.cases import MaskFile, Reading, VolumeCase, companions, stem
from medaug.readers.volumes.file import Wanted
from medaug.readers.volumes.label_map import Naming

DATASET = "dataset.json"

_LARGEST = 1 << 26
"""Bytes that a dataset.json may have: about half a million cases."""

_MODALITIES = {
    "CT": "CT", "PT": "PT", "PET": "PT", "US": "US", "ULTRASOUND": "US", "MG": "MG",
    **dict.fromkeys(
        ("MR", "MRI", "FLAIR", "T1", "T1W", "T1GD", "T1CE", "T2", "T2W", "ADC", "DWI", "CEMRI"),
        "MR",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What a dataset.json says.

    Attributes:
        pairs: (image, label map) relative to the source.
        values: name of a label → its value.
        channels: names of the channels, in their order.
        apart: whether every channel has a file of its own, with its number in the name.
    """

    pairs: tuple[tuple[str, str], ...]
    values: Mapping[str, int]
    channels: tuple[str, ...]
    apart: bool


def find_msd(
    settings: MsdSource,
    files: Sequence[SourceFile],
    site_key: bytes,
    progress: Progress,
) -> Found:
    """The cases that dataset.json lists.

    Raises:
        ReaderError: if there is no dataset.json, if it cannot be understood, if a label or a
            channel that is asked for is not in it, or with every file that it lists and that is
            not there.
    """
    there = {file.inside: file for file in files}
    if DATASET not in there:
        raise ReaderError(
            Fault(settings.path, f"no {DATASET} in it", action="set `path` to the task's folder")
        )
    try:
        with there[DATASET].path.open("rb") as stream:
            document = json.loads(stream.read(_LARGEST))
        task = _task(document, there, settings.channel or 0)
    except (*UNREADABLE, RecursionError):
        raise ReaderError(
            Fault(
                there[DATASET].name,
                "it cannot be understood",
                "a list `training` of pairs {image, label}, or `file_ending`; and `labels`",
            )
        ) from None
    absent = sorted({name for pair in task.pairs for name in pair if name not in there})
    faults = [Fault(there[DATASET].name, f"lists {name}, which is not there") for name in absent]
    faults += _wrong_settings(settings, task, there[DATASET].name)
    if faults:
        raise ReaderError(*shortened(faults))

    naming = Naming(_classes(settings, task))
    reading = Reading(
        Wanted(None if task.apart else settings.channel),
        settings.per,
        "refuse",
        settings.modality or _modality(task, settings.channel or 0),
        settings.unit,
    )
    found = Found(used=[there[DATASET].name])
    used = {DATASET}
    for image, label in task.pairs:
        used |= {image, label}
        patient = _patient(settings, there[label])
        if not patient:
            reason = "the pattern for the patient does not match its path"
            found.refused += [Refusal(there[name].name, reason) for name in (image, label)]
            continue
        masks = [MaskFile(there[label], naming)]
        beside = companions([there[image], there[label]], there)
        found.cases.append(
            VolumeCase(there[image], masks, None, beside, patient, reading, site_key)
        )
    for file in files:
        progress.advance(file.size)
        if file.inside not in used:
            found.refused.append(stray(file, f"{DATASET} does not list it for training"))
    return found


def _patient(settings: MsdSource, label: SourceFile) -> str:
    """Text that names the patient, or ""; an image's name may end in the number of a channel."""
    if settings.patient is None:
        return stem(label.name)
    return (search(settings.patient, label) or {}).get("patient", "")


def _task(document: Any, there: Mapping[str, SourceFile], channel: int) -> Task:
    named = document.get("channel_names", document.get("modality", {}))
    if isinstance(named, list):
        named = dict(enumerate(named))
    channels = tuple(str(named[key]) for key in sorted(named, key=int))
    training = document.get("training")
    values = _values(document["labels"])
    if isinstance(training, list):
        pairs = tuple((_inside(one["image"]), _inside(one["label"])) for one in training)
        return Task(pairs, values, channels, apart=False)
    ending = document["file_ending"]
    if not isinstance(ending, str) or not ending.startswith("."):
        raise ValueError
    number = f"_{channel:04d}"
    if isinstance(listed := document.get("dataset"), dict):
        of_channel = ((one["images"], _inside(one["label"])) for _, one in sorted(listed.items()))
        pairs = tuple((_inside(images[channel]), label) for images, label in of_channel)
        return Task(pairs, values, channels, apart=True)
    stems = sorted(
        found.group(1)
        for name in there
        if (found := re.fullmatch(rf"labelsTr/([^/]+){re.escape(ending)}", name))
    )
    pairs = tuple((f"imagesTr/{s}{number}{ending}", f"labelsTr/{s}{ending}") for s in stems)
    return Task(pairs, values, channels, apart=True)


def _values(labels: Mapping[str, Any]) -> dict[str, int]:
    """Name → value; the Decathlon has it the other way round."""
    if labels and all(key.isdecimal() for key in labels):
        return {str(name): int(value) for value, name in labels.items()}
    return {
        name: int(value) for name, value in labels.items() if not isinstance(value, list)
    }  # a list makes a region of several labels: each of them has a name of its own


def _inside(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _classes(settings: MsdSource, task: Task) -> dict[int, str]:
    if settings.labels:
        return {task.values[name]: label for name, label in settings.labels.items()}
    return {value: name for name, value in task.values.items() if name.lower() != "ignore"}


def _modality(task: Task, channel: int) -> str:
    if channel >= len(task.channels):
        return "OT"
    return _MODALITIES.get(task.channels[channel].strip().upper().replace("-", ""), "OT")


def _wrong_settings(settings: MsdSource, task: Task, name: str) -> list[Fault]:
    faults = []
    wrong = sorted(set(settings.labels) - set(task.values))
    if wrong:
        known = ", ".join(sorted(task.values))
        faults.append(Fault("labels", f"{name} has no label {', '.join(wrong)}", known))
    count = len(task.channels)
    if settings.channel is None and count > 1:
        faults.append(
            Fault("channel", f"{name} names {count} channels", f"one of 0 to {count - 1}",
                  "choose one by the setting `channel`")
        )  # fmt: skip
    if settings.channel is not None and count and settings.channel >= count:
        came = f"{settings.channel}, and {name} names {count} channels"
        faults.append(Fault("channel", came, f"0 to {count - 1}"))
    return faults
