"""Sign a release that stands already: by somebody else than who made it, perhaps elsewhere."""

from __future__ import annotations

from pathlib import Path

from medaug.atomic import replacing
from medaug.errors import Fault, ReaderError
from medaug.export.manifest import read_manifest
from medaug.export.signing import PublicKey, load_secret_key, sign
from medaug.export.sums import SIGNATURE, SUMS
from medaug.export.verify import verify_release


def sign_release(folder: Path, sign_with: Path) -> PublicKey:
    """Sign the digests of a release that verifies, in place of an earlier signature.

    Returns:
        The public key, to hand over by another way than the release.

    Raises:
        ReaderError: if the release does not verify.
        SettingsError: if the key cannot sign.
    """
    key = load_secret_key(sign_with)
    if problems := verify_release(folder).problems:
        raise ReaderError(*(Fault(str(folder), problem) for problem in problems))
    comment = f"medaug release {read_manifest(folder).pixels_digest}"
    text = sign(key, (folder / SUMS).read_bytes(), comment)
    with replacing(folder / SIGNATURE) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return key.public
