"""What may be said of an audit: sentences made from its figures.

Outside go rounded figures over all patients; which patient scored how stays inside.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medaug.privacy.audit import AuditResult

SILENCE = (
    "Silence is weak evidence: simulated patients may be forgotten where real ones are remembered."
)
ONE_PATIENT = "One leaked patient can never be seen by such a test."
PROCEDURE = (
    "The attacks see the samples only, at four scales (raw, low-pass, 8x8 means, band-pass): "
    "standardised likeness, GAN-Leaks, Monte-Carlo{domias}. Their power against fainter leaks than "
    "copies was not measured, and a generator that draws one picture only would pass them."
)
_HOW = {
    "higher": "the samples are nearer to {training}",
    "lower": "the samples keep away from {training}",
    "ahead": "{training} stand alone at the top",
}


def audit_reasons(found: AuditResult) -> tuple[str, ...]:
    """Why the release is refused; empty where it is not."""
    whom = _whom(found)
    reasons = []
    if found.p < found.limit:
        how = _HOW[found.statistic].format(training=f"training {whom}")
        reasons.append(
            f"The audit tells training {whom} from others: p = {rounded_p(found.p)} over "
            f"{len(found.channels)} channels, below {found.limit:g}; {how} ({found.decisive}); "
            f"highest AUC {_auc(found)}. The whole release is refused, not thinned until it "
            "passes: train shorter, on more patients, or with stronger augmentation."
        )
    if found.power is not None and found.power.smallest is None:
        reasons.append(
            f"The audit is blind: with {found.members} training and {found.others} held-out {whom} "
            f"not even copies of {found.power.tried[-1][0]} training {whom} would have been found "
            "with 80 % power. Give the test part more patients; or set privacy.audit: false, and "
            "the release says that no attack was run."
        )
    return tuple(reasons)


def audit_detail(found: AuditResult) -> str:
    """One sentence for the table of checks."""
    return (
        f"Split permutation test of {found.members} training against {found.others} held-out "
        f"{_whom(found)}: p = {rounded_p(found.p)} over {len(found.channels)} channels; it fails "
        f"below {found.limit:g}. Highest AUC {_auc(found)}; among training {_whom(found)} alone up "
        f"to {found.control:.2f}."
    )


def audit_statements(found: AuditResult) -> tuple[str, ...]:
    """What may be said outside."""
    whom = _whom(found)
    low, high = found.ahead_interval
    statements = [
        (
            f"Membership attacks on this release, {found.members} training against {found.others} "
            f"held-out {whom}: highest AUC {_auc(found)}, p = {rounded_p(found.p)} over "
            f"{len(found.channels)} attacks and scales (split permutation test); among training "
            f"{whom} alone, where there is nothing to find, the highest AUC reaches "
            f"{found.control:.2f}."
        ),
        f"True positives at no false positive: {found.ahead} of {found.members} "
        f"[{100 * low:.0f} %, {100 * high:.0f} %]. True-positive rate at 1 % false positives: "
        + (
            f"not estimable with {found.others} held-out {whom}."
            if found.at_one_percent is None
            else f"{100 * found.at_one_percent:.0f} %."
        ),
    ]
    if found.power is not None and found.power.smallest is not None:
        statements.append(
            f"{found.power.smallest} leaked {whom} (exact copies among the samples) would have "
            f"been found with 80 % power. {ONE_PATIENT}"
        )
    statements.append(PROCEDURE.format(domias=" and DOMIAS" if found.reference else ""))
    return tuple(statements)


def _whom(found: AuditResult) -> str:
    return "patients" if found.patients_known else "patches"


def _auc(found: AuditResult) -> str:
    low, high = found.interval
    return f"{found.auc:.2f} [{low:.2f}, {high:.2f}]"


def rounded_p(p: float) -> str:
    """Two digits at most, rounded up: 0.0123 → 0.013."""
    if p < 0.001:
        return "0.001 or less"
    digits = 3 if p < 0.1 else 2
    return f"{ceil(p * 10**digits - 1e-9) / 10**digits:.{digits}f}"
