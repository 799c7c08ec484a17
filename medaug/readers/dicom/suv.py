"""PET activity → standardised uptake value by body weight, where the file says enough.

SUVbw = activity [Bq/ml] · weight [g] / (dose [Bq] · 2^(−elapsed / half-life)), in g/ml [1]_. The
elapsed time runs from the administration to the moment that the activities are corrected to: the
start of the series (Decay Correction START), or the administration itself (ADMIN) [2]_. Where the
series was stamped after its images were acquired, it is no such moment, and no SUV is given.
Counts (Units CNTS), which need a private attribute, are left as they are.

.. [1] QIBA, Vendor-neutral pseudo-code for SUV calculation, "happy path only"
.. [2] DICOM PS3.3 C.8.9.1 (PET Series), C.8.9.2 (PET Isotope)
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from medaug.readers.dicom.attributes import Said, items, number, text

NO_SUV = "hold PET values that cannot be told as SUV ({}); they are taken as they are"

_DAY = timedelta(days=1)
_DOSES = 1e5, 1e11  # Bq; a dose outside them is in another unit


def suv_factor(said: Said) -> float | str:
    """What turns rescaled values into SUVbw (g/ml), or why that cannot be said."""
    units = text(said, "Units")
    if units == "GML":
        return 1.0 if text(said, "SUVType") in ("", "BW") else "not by body weight"
    if units != "BQML":
        return "Units are neither BQML nor GML"
    if not {"ATTN", "DECY"} <= set(text(said, "CorrectedImage").split("\\")):
        return "not corrected for attenuation and decay"
    tracers = items(said, "RadiopharmaceuticalInformationSequence")
    weight = number(said, "PatientWeight")
    if len(tracers) != 1 or not weight or weight <= 0:
        return "no weight, or not one radiopharmaceutical"
    dose = number(tracers[0], "RadionuclideTotalDose")
    half_life = number(tracers[0], "RadionuclideHalfLife")
    if not dose or not _DOSES[0] <= dose <= _DOSES[1] or not half_life or half_life <= 0:
        return "no usable dose and half-life"
    correction = text(said, "DecayCorrection")
    if correction == "START":
        elapsed = _elapsed(said, tracers[0])
        if elapsed is None:
            return "no usable times of administration and scan"
        dose *= 2 ** (-elapsed / half_life)
    elif correction != "ADMIN":
        return "Decay Correction is neither START nor ADMIN"
    return weight * 1000 / dose


def _elapsed(said: Said, tracer: Said) -> float | None:
    """Seconds from the administration to the start of the series."""
    start = _moment(text(said, "SeriesDate"), text(said, "SeriesTime"))
    acquired = _moment(text(said, "AcquisitionDate"), text(said, "AcquisitionTime"))
    if start is None or (acquired is not None and start > acquired):
        return None
    stamp = text(tracer, "RadiopharmaceuticalStartDateTime")
    given = _moment(stamp[:8], re.split("[+-]", stamp[8:])[0])
    if given is None:
        given = _moment(text(said, "SeriesDate"), text(tracer, "RadiopharmaceuticalStartTime"))
        if given is not None and given > start:
            given -= _DAY  # the time alone is said, and midnight lies between
    if given is None or not timedelta(0) <= start - given < _DAY:
        return None
    return (start - given).total_seconds()


def _moment(date: str, time: str) -> datetime | None:
    """A DICOM date and time, or None."""
    whole, _, fraction = time.replace(":", "").partition(".")
    try:
        clock = f"{date}{whole:0<6}{fraction:0<6}"
        return datetime.strptime(clock, "%Y%m%d%H%M%S%f") if whole else None  # noqa: DTZ007 # local
    except ValueError:
        return None
