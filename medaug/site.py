"""What a site keeps beside its runs: the key that makes tokens, and the ledger.

The ledger lies beside the key and is named after it, so that one key has one ledger; a setting may
put it elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medaug.privacy.ledger import Ledger


def ledger_path(ledger: Path | None, site_key: Path | None) -> Path:
    """Where the ledger lies: ``ledger`` if set, else beside the key (``site.ledger.sqlite``)."""
    from medaug.readers.identity import site_key_path

    if ledger is not None:
        return ledger
    key = site_key_path(site_key)
    return key.with_name(f"{key.stem}.ledger.sqlite")


def open_ledger(ledger: Path | None, site_key: Path | None) -> Ledger:
    """The ledger of this site, made on first use.

    Raises:
        ReaderError: for a key that cannot be used.
        SettingsError: for a ledger that cannot be used.
    """
    from medaug.privacy.ledger import Ledger
    from medaug.readers.identity import load_site_key

    return Ledger(ledger_path(ledger, site_key), load_site_key(site_key))
