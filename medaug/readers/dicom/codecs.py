"""Which codec decodes which transfer syntax, and what a codestream may claim.

pydicom drives the codecs, all from packages with a permissive licence. RLE comes with pydicom,
JPEG with Pillow and JPEG-LS with pyjpegls; the extra ``[codecs]`` adds JPEG 2000 and HTJ2K
(pylibjpeg-openjpeg), and JPEG Lossless (the libjpeg-turbo in imagecodecs, made known to pydicom
here). GDCM is not used even where it is installed: one wrong bit in a JPEG Lossless image can
make it abort the whole process.
"""

from __future__ import annotations

import struct
from functools import cache
from importlib.util import find_spec

from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder

LOSSY_CAPABLE = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEG2000,
        uid.JPEGLSNearLossless,
        uid.HTJ2K,
    }
)
"""Transfer syntaxes that can lose something; whether they did is another attribute's to say."""

JPEG_LS = frozenset({uid.JPEGLSLossless, uid.JPEGLSNearLossless})

_PREFERRED = ("pydicom", "pyjpegls", "pylibjpeg", "pillow", "imagecodecs")

DECODER_DEPENDENCIES = {
    uid.JPEGLossless: ("imagecodecs",),
    uid.JPEGLosslessSV1: ("imagecodecs",),
}
"""Asked for by pydicom of a module with a decoder."""


def is_available(syntax: str) -> bool:
    """Whether `decode_lossless_jpeg` can run; asked for by pydicom."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_lossless_jpeg(codestream: bytes, runner: DecodeRunner) -> bytes:
    """One frame of JPEG Lossless (ITU-T T.81, process 14), for pydicom.

    Raises:
        ValueError: if the values do not fit into the bits that the header allocates.
        Exception: whatever imagecodecs makes of a damaged codestream.
    """
    import imagecodecs

    values = imagecodecs.jpeg8_decode(codestream)
    if values.itemsize * 8 > runner.bits_allocated:
        raise ValueError("a codestream of more bits than allocated")
    runner.set_option("bits_allocated", values.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return bytes(values.tobytes())


for _syntax in DECODER_DEPENDENCIES:
    get_decoder(_syntax).add_plugin("imagecodecs", (__name__, "decode_lossless_jpeg"))


def no_codec(syntax: uid.UID) -> str:
    """Why pixels in this transfer syntax cannot be decoded here, or ""."""
    if syntax.is_private or not syntax.is_transfer_syntax:
        return "an unknown transfer syntax: export it as Explicit VR Little Endian"
    if not syntax.is_compressed or syntax.is_deflated or codec_of(syntax):
        return ""
    try:
        get_decoder(syntax)
    except NotImplementedError:
        return f"compressed as {syntax.name}, which no codec here reads: export it uncompressed"
    return f'its pixels are compressed ({syntax.name}): pip install "medaug[codecs]" reads them'


@cache
def codec_of(syntax: uid.UID) -> str:
    """The codec that decodes a compressed transfer syntax, or "" if none is installed."""
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        return ""
    return min(set(plugins) & set(_PREFERRED), key=_PREFERRED.index, default="")


def codestream_size(codestream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, samples) that the header of a JPEG or JPEG 2000 codestream claims.

    A decoder allocates by this header and not by the DICOM attributes, so both must agree before
    it runs. None if there is no such header.

    ITU-T T.81 B.2.2 (frame header; T.87 C.2.2 for JPEG-LS), T.800 A.5.1 (SIZ).
    """
    siz = codestream.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if siz >= 0 and not codestream.startswith(b"\xff\xd8"):
        fields = codestream[siz + 8 : siz + 42]
        if len(fields) < 34:
            return None
        right, bottom, left, top = struct.unpack(">4L", fields[:16])
        return bottom - top, right - left, struct.unpack(">H", fields[32:34])[0]
    return _jpeg_size(codestream) if codestream.startswith(b"\xff\xd8") else None


def ends(codestream: bytes) -> bool:
    """Whether a JPEG codestream ends with its End Of Image marker (T.81 B.1.1.3), padding aside.

    CharLS takes seconds to find out that the end of a JPEG-LS codestream is missing.
    """
    return codestream.rstrip(b"\0").endswith(b"\xff\xd9")


def _jpeg_size(codestream: bytes) -> tuple[int, int, int] | None:
    at = 2
    while at + 10 <= len(codestream) and codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker == 0xFF:
            at += 1  # a fill byte
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns, samples = struct.unpack(">HHB", codestream[at + 5 : at + 10])
            return rows, columns, samples
        else:
            at += 2 + int(struct.unpack(">H", codestream[at + 2 : at + 4])[0])
    return None
