"""The pixels of a file as its header describes them, checked against the bytes that are there.

What a header says about sizes is believed only as far as the file can hold it, before anything is
allocated: exactly for native pixels, by what a codec can pack for compressed ones.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder

from medaug.readers.dicom.attributes import integer, text
from medaug.readers.dicom.codecs import JPEG_LS, codec_of, codestream_size, ends
from medaug.readers.dicom.file import UNDEFINED, Written, inflate, inflated_part

LARGEST_FRAME = 1 << 30
"""Most bytes that one frame may decode to."""

LIKELY_FRAME = 1 << 26
"""A frame of up to so many bytes may be packed into next to nothing, as a blank one is."""

LIKELY_RATIO = 100
"""How far a larger frame may be compressed."""

_CUT_OFF = "its pixel data are cut off"


@dataclass(frozen=True, eq=False, repr=False)
class PixelData:
    """How the pixels of all frames of one file are written (PS3.3 C.7.6.3).

    Attributes:
        samples: 1, or 3 for colours.
        stored: bits that hold a value, of the ``allocated`` ones; the rest may be dirty.
        floating: FloatPixelData or DoubleFloatPixelData.
        written: where they lie.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    signed: bool
    syntax: uid.UID
    keyword: str
    vr: str
    at: int
    length: int
    left: int
    deflated_at: int | None

    @property
    def floating(self) -> bool:
        """Whether the values are no integers."""
        return self.keyword != "PixelData"

    @property
    def lowest(self) -> int:
        """The smallest integer that the stored bits can hold."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest integer that the stored bits can hold."""
        return self.lowest + (1 << self.stored) - 1

    @property
    def frame_bytes(self) -> int:
        """Size of one native frame, rounded up."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return -(-self.rows * self.columns * samples * self.allocated // 8)

    @property
    def native_bytes(self) -> int:
        """Size of all native frames; frames of single bits follow without a gap (PS3.5 8.1.1)."""
        if self.allocated > 1:
            return self.frames * self.frame_bytes
        return -(-self.frames * self.rows * self.columns // 8)


def pixel_data(written: Written) -> PixelData | str:
    """What the header says of the pixels, or why they cannot be read."""
    dataset = written.dataset
    frames = 1 if (said := integer(dataset, "NumberOfFrames")) is None else said
    samples = integer(dataset, "SamplesPerPixel") or 1
    allocated = integer(dataset, "BitsAllocated") or 0
    stored = integer(dataset, "BitsStored") or allocated
    high = integer(dataset, "HighBit")
    floating = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(written.keyword)
    if frames < 1 or samples not in (1, 3):
        return f"{frames} frames of {samples} values per pixel: 1 or 3 values can be read"
    if allocated not in ((floating,) if floating else (1, 8, 16, 32)) or not (
        0 < stored <= allocated
    ):
        return f"{stored} of {allocated} bits per value: no layout that DICOM knows"
    if not floating and high not in (None, stored - 1):
        return "its values do not begin at the lowest bit (High Bit): export it again"
    return PixelData(
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        frames=frames,
        samples=samples,
        photometric=text(dataset, "PhotometricInterpretation"),
        planar=integer(dataset, "PlanarConfiguration") or 0,
        allocated=allocated,
        stored=stored,
        signed=bool(integer(dataset, "PixelRepresentation")),
        syntax=written.syntax,
        keyword=written.keyword,
        vr=written.vr,
        at=written.at,
        length=written.length,
        left=written.left,
        deflated_at=written.deflated_at,
    )


def damage(pixels: PixelData, stream: BinaryIO) -> str:
    """Why the pixels cannot all be there, or ""."""
    if not pixels.keyword:
        return "it ends before its pixel data"
    if pixels.syntax.is_compressed and pixels.deflated_at is None:
        return _compressed_damage(pixels, stream)
    need = pixels.native_bytes
    if pixels.length == UNDEFINED or pixels.length < need:
        return _CUT_OFF
    if pixels.deflated_at is None:
        return "" if pixels.left >= need else _CUT_OFF
    if need > _most_bytes(pixels):
        return f"it claims {need} bytes of pixels, more than its bytes can hold"
    stream.seek(pixels.deflated_at)
    unpacked = 0
    for piece in inflate(stream):
        unpacked += len(piece)
        if unpacked >= pixels.at + need:
            return ""
    return _CUT_OFF


def _compressed_damage(pixels: PixelData, stream: BinaryIO) -> str:
    if pixels.length != UNDEFINED:
        return "its compressed pixel data are not in fragments"
    stream.seek(pixels.at)
    fragments = _fragments(stream)
    if fragments is None:
        return "its compressed pixel data are cut off"
    if fragments < pixels.frames:
        return f"it claims {pixels.frames} frames, and holds {fragments}"
    if pixels.frame_bytes > _most_bytes(pixels):
        return f"it claims {pixels.rows} x {pixels.columns} pixels, more than its bytes can hold"
    return ""


def _most_bytes(pixels: PixelData) -> int:
    """How much the compressed bytes may unpack to: a frame, or all of a deflated file."""
    return max(LIKELY_FRAME, min(LARGEST_FRAME, LIKELY_RATIO * pixels.left))


def _fragments(stream: BinaryIO) -> int | None:
    """Step over the fragments to the Sequence Delimitation Item (PS3.5 A.4) and count them."""
    size = os.fstat(stream.fileno()).st_size
    count = -1  # the first item is the Basic Offset Table
    while len(item := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return count
        if (group, element) != (0xFFFE, 0xE000) or stream.tell() + length > size:
            return None
        count += 1
        stream.seek(length, os.SEEK_CUR)
    return None


def read_frame(pixels: PixelData, stream: BinaryIO, index: int) -> tuple[NDArray[Any], str]:
    """One frame, and its photometric interpretation once decoded.

    Returns:
        (row, column), or (row, column, sample) for colours.

    Raises:
        ValueError: if a codestream is not of the size that the header says.
        Exception: `oddities.UNREADABLE`, whatever a codec makes of damaged data.
    """
    source: BinaryIO | bytes
    frames, plugin = pixels.frames, ""
    if pixels.deflated_at is not None:
        stream.seek(pixels.deflated_at)
        if pixels.allocated == 1:
            start, length = pixels.at, pixels.native_bytes
        else:
            start, length = pixels.at + index * pixels.frame_bytes, pixels.frame_bytes
            frames, index = 1, 0
        source = BytesIO(inflated_part(stream, start, length))
    elif pixels.syntax.is_compressed:
        stream.seek(pixels.at)
        codestream = get_frame(stream, index, number_of_frames=frames)
        claimed = codestream_size(codestream)
        if pixels.syntax != uid.RLELossless and claimed != (
            pixels.rows,
            pixels.columns,
            pixels.samples,
        ):
            raise ValueError("a codestream of another size")
        if pixels.syntax in JPEG_LS and not ends(codestream):
            raise ValueError("a codestream without its end")
        source, frames, index = encapsulate([codestream], has_bot=False), 1, 0
        plugin = codec_of(pixels.syntax)
    else:
        stream.seek(pixels.at)
        source = stream
    values, decoded = get_decoder(pixels.syntax).as_array(
        source, index=index, raw=True, decoding_plugin=plugin, **_options(pixels, frames)
    )
    return values, str(decoded["photometric_interpretation"])


def _options(pixels: PixelData, frames: int) -> dict[str, Any]:
    options = {
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": frames,
        "samples_per_pixel": pixels.samples,
        "photometric_interpretation": pixels.photometric,
        "bits_allocated": pixels.allocated,
        "bits_stored": pixels.stored,
        "pixel_representation": int(pixels.signed),
        "pixel_keyword": pixels.keyword,
        "transfer_syntax_uid": pixels.syntax,
    }
    if pixels.samples > 1:
        options["planar_configuration"] = pixels.planar
    if pixels.vr:
        options["pixel_vr"] = pixels.vr
    return options
