"""The ten slices of a lesion out of a CT: medaug beside the readers that load the whole series.

    python benchmarks/readers/lazy.py ../shared/data/ircadb17_liver_ct --repeats 15

Every way ends with voxels in memory: medaug's with the geometry of the series and ten slices of
it, which is all that the patches of a lesion need; the others' with the whole volume, which is
what they are made for. MONAI is called as its tutorials do (`LoadImage` on the folder), SimpleITK
too (`GetGDCMSeriesFileNames`, then `ImageSeriesReader`). Formats: the series as it is; the same
in JPEG 2000, lossless; the same as one .nii.gz. The ways take turns, so that a busy machine
disturbs each alike; all files are in the page cache, one thread each.

The folder holds the zips or the files of 3D-IRCADb patient 17; $MEDAUG_DATA stands for its parent.
MONAI's ITKReader takes part where the package itk is installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import argparse
import platform
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 its own documentation's name
from monai.transforms import LoadImage
from pydicom.uid import JPEG2000Lossless

from medaug.domain import Region, Unit, Volume
from medaug.readers.dicom.header import Slice, read_header
from medaug.readers.dicom.pixels import slice_decoder
from medaug.readers.dicom.stack import build_stacks
from medaug.readers.dicom.volume import volume_of
from medaug.readers.files import SourceFile, list_files
from medaug.readers.volumes.file import Wanted
from medaug.readers.volumes.nifti import read_nifti

SLICES = 10


def unpacked(source: Path, scratch: Path) -> Path:
    """The folder of the CT's files."""
    if not (source / "PATIENT_DICOM").is_dir():
        for archive in source.glob("*.zip"):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(scratch)
        source = scratch
    return source / "PATIENT_DICOM"


def as_jpeg2000(series: Path, folder: Path) -> Path:
    """A lossless copy of the series."""
    folder.mkdir()
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(folder / path.name)
    return folder


def as_nifti(series: Path, path: Path) -> Path:
    """The series as one packed file."""
    sitk.WriteImage(whole_simpleitk(series), path)
    return path


def lesion_dicom(folder: Path) -> tuple[Volume, np.ndarray]:
    """Medaug: headers of all slices, pixels of ten."""
    files, _ = list_files(folder, folder)
    slices = [
        one
        for file in files
        for one in read_header(file, "PatientID")  # type: ignore[union-attr]
        if isinstance(one, Slice)
    ]
    (stack,), _ = build_stacks(slices)
    volume = volume_of(stack, slice_decoder())
    return volume, volume.read(middle(volume))


def lesion_nifti(path: Path) -> tuple[Volume, np.ndarray]:
    """Medaug: the header, and the packed file as far as it must be unpacked."""
    opened = read_nifti(SourceFile(path, path.name, path.name), Wanted())
    (stored,) = opened.voxels

    def decode(region: Region) -> np.ndarray:
        values = stored.unpack()[region] if stored.packed else stored.read(region)
        return (values * stored.slope + stored.intercept).astype(np.float32)

    volume = Volume(opened.geometry, "CT", Unit.HOUNSFIELD, decode)
    return volume, volume.read(middle(volume))


def middle(volume: Volume) -> Region:
    """Ten slices in the middle of a volume."""
    start = volume.geometry.shape[2] // 2
    return slice(None), slice(None), slice(start, start + SLICES)


def whole_simpleitk(path: Path) -> sitk.Image:
    """SimpleITK: the whole series, or the whole file."""
    if path.is_file():
        return sitk.ReadImage(path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def monai(reader: str) -> Callable[[Path], object]:
    """MONAI: `LoadImage` with the reader of this name."""
    load: Callable[[Path], object] = LoadImage(reader=reader, image_only=True)
    return load


def agree(ours: tuple[Volume, np.ndarray], path: Path) -> bool:
    """Whether medaug's ten slices are those of SimpleITK, voxel by voxel, and lie where its do."""
    volume, voxels = ours
    image, region = whole_simpleitk(path), middle(volume)
    first = image.TransformIndexToPhysicalPoint((0, 0, region[2].start))
    place = volume.geometry.world(np.array([[0, 0, region[2].start]]))[0] * (-1, -1, 1)
    theirs = sitk.GetArrayViewFromImage(image)[region[2]].T
    return np.array_equal(voxels, theirs) and np.allclose(first, place, atol=1e-3)


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns; the first turn warms up and does not count."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                spent[name].append(time.perf_counter() - began)
    return spent


def show(title: str, spent: dict[str, list[float]]) -> None:
    """A table: median, quartiles, and how many times medaug's median."""
    print(f"\n{title:30}{'median':>10}{'quartiles':>20}{'x medaug':>10}")
    ours = statistics.median(spent["medaug, ten slices"])
    for name, seconds in spent.items():
        low, median, high = (1000 * value for value in statistics.quantiles(seconds, n=4))
        spread = f"{low:.0f}-{high:.0f}"
        print(f"  {name:28}{median:7.0f} ms{spread:>17} ms{median / 1000 / ours:10.1f}")


def main() -> None:
    """Measure every way on every format."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(os.environ.get("MEDAUG_DATA", "../shared/data")) / "ircadb17_liver_ct"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--repeats", type=int, default=11)
    asked = parser.parse_args()
    names = ("medaug", "monai", "SimpleITK", "pydicom", "numpy", "pylibjpeg-openjpeg")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in names), end="; one thread, warm cache\n")
    itk = {"MONAI, ITKReader": "ITKReader"} if find_spec("itk") else {}
    with tempfile.TemporaryDirectory() as scratch:
        series = unpacked(asked.folder, Path(scratch) / "series")
        formats = {
            "DICOM, as it is": (series, lesion_dicom, {"MONAI, PydicomReader": "PydicomReader"}),
            "DICOM, JPEG 2000 lossless": (
                as_jpeg2000(series, Path(scratch) / "jpeg2000"),
                lesion_dicom,
                {"MONAI, PydicomReader": "PydicomReader"},
            ),
            "NIfTI, .nii.gz": (
                as_nifti(series, Path(scratch) / "ct.nii.gz"),
                lesion_nifti,
                {"MONAI, NibabelReader": "NibabelReader"},
            ),
        }
        for title, (path, ours, readers) in formats.items():
            if not agree(ours(path), path):
                raise SystemExit(f"{title}: medaug's slices differ from SimpleITK's")
            ways: dict[str, Callable[[], object]] = {
                "medaug, ten slices": lambda path=path, ours=ours: ours(path),
                "SimpleITK, whole": lambda path=path: whole_simpleitk(path),
            }
            for name, reader in (readers | itk).items():
                load = monai(reader)
                ways[f"{name}, whole"] = lambda path=path, load=load: load(path)
            show(title, measure(ways, asked.repeats))


if __name__ == "__main__":
    main()
