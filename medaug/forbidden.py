"""Words that a release never says about itself, because no check here can show them.

One list for everything that leaves: papers, settings that go into them, and received releases.

>>> forbidden_words("Fully anonymised and SAFE to share, GDPR-compliant")
['anonymised', 'SAFE', 'GDPR-compliant']
>>> forbidden_words("Weights are safetensors; no unsafe step; patients are pseudonyms.")
[]
"""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(
    r"""\banonym\w*
    | \bde-?identif\w*
    | \b(?:GDPR|HIPAA)\W+complian\w*
    | \bcomplian\w*\s+with\s+(?:the\s+)?(?:GDPR|HIPAA)
    | \bno\s+re-?identification\b
    | \bre-?identification\s+(?:is\s+)?(?:not\s+possible|impossible)
    | \b(?:cannot|can\s+not|can't|never)\s+be\s+re-?identified\b
    | \bnon-?identifi(?:able|ed)\b
    | \bsafe(?:ly)?\b
    | \bpass(?:es|ed)?\s+(?:the\s+)?DCR\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def forbidden_words(text: str) -> list[str]:
    """Every claim in ``text`` that nothing supports, in order of appearance."""
    return [found.group() for found in _FORBIDDEN.finditer(text)]
