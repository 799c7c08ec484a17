"""What the templates say in their own words, and whether it can be read."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medaug.report import page
from medaug.report.page import write_report

TEMPLATES = Path(page.__file__).parent / "templates"
FORBIDDEN = re.compile(
    r"anonym|de-?identif|\bsafe|GDPR|HIPAA|re-identification|\bDCR\b|state.of.the.art"
    r"|production.ready|guarantee|cutting.edge|powerful|seamless|✓|✔|🚀",
    re.IGNORECASE,
)


@pytest.mark.parametrize("state", ["cut", "training", "trained", "refused", "released", "complete"])
def test_the_page_claims_nothing_that_cannot_be_shown(
    build_run: Callable[..., Path], state: str
) -> None:
    html = write_report(build_run(state)).read_text(encoding="utf-8")
    assert not FORBIDDEN.search(re.sub('base64,[^"]*', "", html))


@pytest.mark.parametrize("path", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_no_branch_of_a_template_does_so_either(path: Path) -> None:
    assert not FORBIDDEN.search(path.read_text(encoding="utf-8"))


def test_colours_can_be_told_from_the_paper() -> None:
    """WCAG 2.1, 1.4.3: text has a contrast of 4.5 or more, in light and in dark."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", root)) for root in style.split(":root")]
    schemes = [scheme for scheme in schemes if "ink" in scheme]
    assert len(schemes) == 2

    def luminance(colour: str) -> float:
        channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in schemes:
        pairs = [(text, "paper") for text in ("ink", "soft", "first", "second", "alert", "good")]
        pairs += [("soft", "raised"), ("ink", "raised"), ("alert", "alert-ground")]
        for text, ground in pairs:
            dark, light = sorted(luminance(scheme[name]) for name in (text, ground))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
