"""The whole road with ``generator.outputs: [image, mask]``, on a phantom cohort."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from medaug.config import load_pipeline
from medaug.domain import boxes_of
from medaug.export.release import load_release
from medaug.export.verify import verify_release
from medaug.phantom import write_cohort
from medaug.pipeline import run_pipeline
from medaug.progress import Silent
from medaug.stations import Run

pytestmark = pytest.mark.slow

SHORT = (
    "generator.outputs=[image, mask]",
    "generator.images=6000",
    "generator.width=16",
    "privacy.per_class=24",
    "evaluation.steps=20",
    "evaluation.bootstrap=500",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on 84 patients."""
    place = tmp_path_factory.mktemp("masks")
    write_cohort(place / "phantom", patients=84, seed=3)
    settings = [*SHORT, f"site_key={place / 'site.key'}"]
    config = load_pipeline("phantom", settings, data=place / "phantom")
    run_pipeline(config, place / "run")
    return Run(config, place / "run", Silent())


def contrast(images: np.ndarray, masks: np.ndarray) -> float:
    """Mean of (inside − ring outside) over samples, in HU; the ring is 2 to 6 pixels away."""
    found = []
    for image, mask in zip(images[:, 0], masks, strict=True):
        near, far = (binary_dilation(mask, iterations=reach) for reach in (2, 6))
        if mask.any() and (far & ~near).any():
            found.append(image[mask].mean() - image[far & ~near].mean())
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
    """A cyst's mask is darker than its ring, and darker than under the mask of another sample."""
    release, real = run.release, run.patches
    assert release.masks is not None
    assert real.masks is not None
    cysts = release.labels == release.classes.index("cyst")
    images, masks = release.images[cysts], release.masks[cysts]
    of_real = real.labels == real.classes.index("cyst")
    true = contrast(real.images[of_real], real.masks[of_real])
    drawn = contrast(images, masks)
    swapped = contrast(images, np.roll(masks, 1, axis=0))
    figures = f"real {true:.0f} HU, drawn {drawn:.0f} HU, with another's mask {swapped:.0f} HU"
    assert drawn < 0.3 * true < 0, figures
    assert drawn < swapped - 10, figures


def test_sheets_show_the_outline(run: Run) -> None:
    sheets = [*run.folder.glob("sheets/synthetic_*.png"), *run.folder.glob("generator/samples/*")]
    assert len(sheets) == 6
    for path in sheets:
        with Image.open(path) as image:
            colours = np.asarray(image.convert("RGB"))
        assert (colours[..., 0] != colours[..., 2]).any(), path.name


def test_the_evaluation_takes_it(run: Run) -> None:
    evaluation = json.loads((run.folder / "evaluation.json").read_text())
    assert evaluation["verdict"]["word"] in {"helps", "no evidence", "hurts"}
