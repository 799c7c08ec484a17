"""The shipped pipelines on real images: read, cut, refuse, or walk the whole road.

The trainings are cut short: what is tested is that the road holds, not how good the patches are
(``docs/results`` has the full runs).
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medaug.config import load_pipeline
from medaug.errors import CohortError
from medaug.export.verify import verify_release
from medaug.patching.store import read_patches
from medaug.pipeline import run_pipeline
from medaug.progress import Silent
from medaug.road.run import Run

Real = Callable[[str], Path]
SHORT = (
    "generator.images=4000",
    "generator.width=16",
    "privacy.per_class=30",
    "evaluation.classifiers=[resnet-10-narrow]",
    "evaluation.seeds=2",
    "evaluation.fidelity.deals=20",
    "evaluation.steps=20",
    "evaluation.bootstrap=500",
)


def walk(pipeline: str, data: Path, out: Path, last: str = "evaluate", *changes: str) -> Run:
    config = load_pipeline(pipeline, [*changes, f"site_key={out / 'site.key'}"], data=data)
    run_pipeline(config, out / "run", last)
    return Run(config, out / "run", Silent())


class TestLiver:
    """One CT series, two tumours; one patient cannot be split."""

    def test_patches_in_hu_at_a_fixed_pixel_size_centred_with_masks(
        self, real_data: Real, tmp_path: Path
    ) -> None:
        folder = real_data("ircadb17_liver_ct")
        run = walk("liver_ct", folder, tmp_path, "extract")
        (case,) = json.loads((run.folder / "inventory.json").read_text())["cases"]
        assert (case["modality"], case["unit"], case["shape"]) == ("CT", "HU", [512, 512, 119])
        assert case["spacing_mm"] == pytest.approx([0.743, 0.743, 1.6], abs=1e-4)
        voxel = 0.742999970912933**2 * 1.6
        counted = sorted(
            sum(
                int((pydicom.dcmread(path).pixel_array > 0).sum())
                for path in (folder / "MASKS_DICOM" / name).iterdir()
            )
            for name in ("livertumor1", "livertumor2")
        )
        volumes = sorted(lesion["volume_mm3"] for lesion in case["lesions"])
        assert volumes == pytest.approx([count * voxel for count in counted], rel=0.01)

        patches = run.patches
        assert patches.images.shape == (2, 1, 64, 64)
        assert {place.mm_per_pixel for place in patches.locations} == {1.5}
        assert patches.masks is not None
        for image, mask in zip(patches.images[:, 0], patches.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert abs((rows.min() + rows.max()) / 2 - 31.5) <= 1
            assert abs((columns.min() + columns.max()) / 2 - 31.5) <= 1
            assert 0 < np.median(image[mask]) < 130, "a tumour in HU, portal-venous phase"

    def test_a_run_is_refused_and_says_how_many_patients_it_needs(
        self, real_data: Real, tmp_path: Path
    ) -> None:
        with pytest.raises(CohortError, match="about 40 patients of this class") as refused:
            walk("liver_ct", real_data("ircadb17_liver_ct"), tmp_path)
        assert refused.value.exit_code == 2
        assert not (tmp_path / "run" / "generator").exists()


def test_ms_lesions_are_read_and_cut(real_data: Real, tmp_path: Path) -> None:
    run = walk("ms_lesions", real_data("ms_lesions_mni"), tmp_path, "extract")
    inventory = json.loads((run.folder / "inventory.json").read_text())
    assert inventory["classes"] == {"ms_lesion": {"lesions": 56, "patients": 2}}
    summary = json.loads((run.folder / "patches" / "summary.json").read_text())
    assert summary["patches"] + len(summary["skipped"]) == 56
    patches = read_patches(run.folder / "patches" / "patches.h5")
    assert patches.masks is not None
    bright = [
        image[0][mask].mean() > np.median(image[0])
        for image, mask in zip(patches.images, patches.masks, strict=True)
    ]
    assert np.mean(bright) > 0.8, "MS lesions are bright on FLAIR"


def test_mammograms_are_cut_by_patient(real_data: Real, tmp_path: Path) -> None:
    run = walk("mammography_masses", real_data("cbis_ddsm_mass_patches"), tmp_path, "extract")
    assert len(run.patches) == 1296
    assert len(run.patches.patient_order) == 680


@pytest.mark.slow
def test_mammography_walks_the_whole_road_by_patient(real_data: Real, tmp_path: Path) -> None:
    """A third of the patients: the gate's work grows with their square."""

    def others(_: str, names: list[str]) -> list[str]:
        numbers = {name: re.search(r"P_(\d+)_", name) for name in names}
        return [name for name, found in numbers.items() if found and int(found[1]) % 3]

    third = tmp_path / "third"
    shutil.copytree(
        real_data("cbis_ddsm_mass_patches"), third, ignore=others, copy_function=os.link
    )
    run = walk("mammography_masses", third, tmp_path, "evaluate", *SHORT)
    assert 200 < len(run.patches.patient_order) < len(run.patches)
    assert run.release.per_class() == {"benign": 30, "malignant": 30}
    assert verify_release(run.folder / "release").ok
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert evaluation["test"]["patients"] == len(run.split.test) > 50
    assert evaluation["verdict"]["word"] in {"helps", "no evidence", "hurts"}
    assert "patient-level" not in report_text(run).lower()


@pytest.mark.slow
def test_nodules_without_patients_walk_the_road_and_the_report_says_so(
    real_data: Real, tmp_path: Path
) -> None:
    """Those of the smaller table, and as many other candidates."""
    data = tmp_path / "nodules"
    shutil.copytree(real_data("luna_nodule_patches") / "val", data / "val", copy_function=os.link)
    table = (real_data("luna_nodule_patches") / "valdatalabels.txt").read_text().splitlines()
    nodules = [row for row in table if row.endswith("1")]
    rest = [row for row in table if row.endswith("0")]
    (data / "few.txt").write_text("\n".join([*nodules, *rest[: len(nodules)]]) + "\n")
    fewer = "sources.0.table.files=[few.txt]"
    run = walk("lung_nodules", data, tmp_path, "evaluate", *SHORT, fewer)
    assert len(run.patches) == 2 * 224
    assert not run.patches.patients_known
    assert run.release.decision.policy.patch_level_only
    assert any("patch-level only" in said.lower() for said in run.release.decision.statements)
    text = report_text(run)
    assert "Nothing on this page is a statement about patients" in text
    assert "does not say which patches belong to one patient" in text
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert any("patient" in caveat for caveat in evaluation["caveats"])


def report_text(run: Run) -> str:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    return re.sub(r"(<[^>]+>|\s)+", " ", re.sub(r"<style.*?</style>", "", page, flags=re.S))
