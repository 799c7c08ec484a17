"""The whole road with ``generator.outputs: [image, mask]``, on a phantom cohort."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from medaug.config import load_pipeline
from medaug.domain import boxes_of
from medaug.export.release import load_release
from medaug.export.verify import verify_release
from medaug.pipeline import run_pipeline
from medaug.progress import Silent
from medaug.road.run import Run

pytestmark = pytest.mark.slow

SHORT = (
    "generator.outputs=[image, mask]",
    "generator.images=9000",
    "generator.width=16",
    "privacy.per_class=24",
    "evaluation.steps=20",
    "evaluation.bootstrap=500",
    "evaluation.seeds=2",
    "evaluation.classifiers=[resnet-10-narrow]",
    "evaluation.fidelity.deals=20",
    "evaluation.tasks=[classification, segmentation, detection]",
)


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the shared phantoms."""
    place = tmp_path_factory.mktemp("masks")
    settings = [*SHORT, f"site_key={place / 'site.key'}"]
    config = load_pipeline("phantom", settings, data=phantoms)
    run_pipeline(config, place / "run")
    return Run(config, place / "run", Silent())


def dice(images: np.ndarray, masks: np.ndarray) -> float:
    """Mean Dice of each mask with what a threshold finds in its image, at most 8 pixels around.

    The threshold lies halfway between the mean inside and the mean around: a mask that ends where
    the lesion does agrees with it, whatever the lesion's contrast.
    """
    found = []
    for image, mask in zip(images[:, 0], masks, strict=True):
        near = binary_dilation(mask, iterations=8)
        inside, around = image[mask].mean(), image[near & ~mask].mean()
        smooth = gaussian_filter(image, 1.5) - (inside + around) / 2
        lesion = near & (smooth * np.sign(inside - around) > 0)
        found.append(2 * (lesion & mask).sum() / (lesion.sum() + mask.sum()))
    return float(np.mean(found))


def test_every_released_patch_has_its_mask(run: Run) -> None:
    release = load_release(run.folder / "release")
    assert release.per_class() == dict.fromkeys(("cyst", "haemangioma", "metastasis"), 24)
    assert release.masks is not None
    boxes = boxes_of(release.masks)
    assert boxes.shape == (72, 4)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1
    assert json.loads((run.folder / "release" / "release.json").read_text())["masks"] is True
    found = verify_release(run.folder / "release")
    assert found.ok, found.problems


def test_masks_lie_on_lesions(run: Run) -> None:
    """A mask ends where its own drawn lesion does, and less well where another's does."""
    images, masks = run.release.images, run.release.masks
    assert masks is not None
    own, another = dice(images, masks), dice(images, np.roll(masks, 1, axis=0))
    assert own > another + 0.05, (own, another)
    assert own > 0.6


def test_sheets_show_the_outline(run: Run) -> None:
    sheets = [*run.folder.glob("sheets/synthetic_*.png"), *run.folder.glob("generator/samples/*")]
    assert len(sheets) == 9
    for path in sheets:
        with Image.open(path) as image:
            colours = np.asarray(image.convert("RGB"))
        assert (colours[..., 0] != colours[..., 2]).any(), path.name


def test_the_evaluation_takes_it(run: Run) -> None:
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert evaluation["verdict"]["word"] in {"helps", "no evidence", "hurts"}
    assert len(evaluation["tasks"]) == 2
    for found in evaluation["tasks"].values():
        assert found["not_computed"] == []
        assert "real+classical+gan" in [arm["arm"] for arm in found["arms"]]
