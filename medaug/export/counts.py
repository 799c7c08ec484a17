"""Whether the layouts for segmentation hold every sample; needs no library that reads images."""

from __future__ import annotations

from medaug.export.layout import folder_names
from medaug.export.manifest import Manifest

MSD = "msd"
DATASET = "dataset.json"


def nnunet_folder(manifest: Manifest) -> str:
    """The folder of the data set for nnU-Net, relative to that of the release."""
    return f"nnunet/Dataset500_{folder_names((manifest.name,))[0]}"


def channels_of(manifest: Manifest) -> int:
    """Channels of a sample: more than one are adjacent slices."""
    return manifest.image.shape[0]


def segmentation_problems(manifest: Manifest, names: list[str]) -> list[str]:
    """Whether both layouts hold every sample; ``names`` are the files of the release folder."""
    samples = sum(entry.samples for entry in manifest.classes)
    problems = []
    for kind, root, images in (
        ("msd", MSD, samples),
        ("nnunet", nnunet_folder(manifest), samples * channels_of(manifest)),
    ):
        told = kind in manifest.formats
        for part, wanted in (("imagesTr/", images), ("labelsTr/", samples), (DATASET, 1)):
            found = sum(name.startswith(f"{root}/{part}") for name in names)
            if found != wanted * told:
                problems.append(f"{root}/{part} holds {found} files, not {wanted * told}")
    return problems
