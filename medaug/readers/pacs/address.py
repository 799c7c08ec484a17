"""How the address of an archive is written, and which studies it asks for.

::

    dicomweb+https://host[:port]/path?FILTER=VALUE&...             QIDO-RS and WADO-RS
    dimse://CALLED_AET@host[:port]?FILTER=VALUE&retrieve=get&...   C-FIND, and C-GET or C-MOVE

A filter is the keyword of an attribute; one given twice means either value. An address without
a filter is refused, so that nobody asks for a whole archive by mistake; ``all=yes`` asks for it.
Values of filters may name a patient and are never shown; `Address.shown` leaves them out.

>>> address = parse("dimse://ARCHIVE@pacs:104?PatientID=47*&Modality=CT&Modality=SEG")
>>> address.called, address.filters["Modality"], address.retrieve
('ARCHIVE', ('CT', 'SEG'), 'get')
>>> print(address.shown)
dimse://ARCHIVE@pacs:104?PatientID=…&Modality=…
>>> address.accepts({"PatientID": "4711", "Modality": "SEG"}), address.accepts({"PatientID": "8"})
(True, False)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from medaug.errors import Fault, SettingsError

STUDY_FILTERS = ("StudyInstanceUID", "AccessionNumber", "PatientID", "StudyDate")
"""Sent with the question for studies; those that select most stand first."""

SERIES_FILTERS = ("SeriesInstanceUID", "Modality", "SeriesDescription")
"""Compared with what the archive says about each series."""

_SCHEMES = ("dicomweb+http", "dicomweb+https", "dimse")
_WEB_OPTIONS = ("all", "timeout")
_DIMSE_OPTIONS = (*_WEB_OPTIONS, "retrieve", "calling", "receive_port")
_EXAMPLE = "dicomweb+https://host/dicom-web?PatientID=… or dimse://CALLED_AET@host:104?PatientID=…"
_DICOM_PORT = 11112  # PS3.8 9.1.1
_DATES = re.compile(r"\d{8}|\d{8}-|-\d{8}|\d{8}-\d{8}")
_UID = re.compile(r"[0-9.]{1,64}")
_AET = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")  # PS3.5 6.2: no backslash


@dataclass(frozen=True, repr=False)
class Address:
    """An archive, how to reach it and what to ask for.

    Attributes:
        scheme: one of ``dicomweb+http``, ``dicomweb+https``, ``dimse``.
        host, port: of the archive.
        path: of the DICOMweb service.
        called, calling: application entity titles of the archive and of medaug.
        retrieve: ``get`` or ``move``.
        receive_port: where C-MOVE brings the instances.
        timeout: seconds to wait for each answer.
        filters: keyword → accepted values; empty: everything.
    """

    scheme: str
    host: str
    port: int
    path: str
    called: str
    calling: str
    retrieve: str
    receive_port: int
    timeout: float
    filters: Mapping[str, tuple[str, ...]]

    @property
    def web(self) -> bool:
        """Whether it is spoken to in DICOMweb."""
        return self.scheme != "dimse"

    @property
    def service(self) -> str:
        """The URL of the DICOMweb service."""
        return f"{self.scheme.removeprefix('dicomweb+')}://{self.host}:{self.port}{self.path}"

    @property
    def shown(self) -> str:
        """The address for messages: no value of a filter."""
        title = "" if self.web else f"{self.called}@"
        asked = "&".join(f"{key}=…" for key in self.filters) or "all=yes"
        return f"{self.scheme}://{title}{self.host}:{self.port}{self.path}?{asked}"

    def questions(self) -> Iterator[dict[str, str]]:
        """What to ask an archive for studies; together they cover every study wanted.

        Only one filter is asked value by value. What the others let through beyond the address
        is sorted out by `accepts`, as is the answer of an archive that ignores a filter.
        """
        single = {key: values[0] for key in STUDY_FILTERS if len(values := self._values(key)) == 1}
        several = next((key for key in STUDY_FILTERS if len(self._values(key)) > 1), "")
        modalities = self._values("Modality")
        if several:
            yield from ({**single, several: value} for value in self._values(several))
        elif single or not modalities:
            yield single
        else:
            yield from ({"ModalitiesInStudy": modality} for modality in modalities)

    def accepts(self, answer: Mapping[str, str]) -> bool:
        """Whether a study or a series passes each filter on an attribute that ``answer`` has."""
        return all(
            any(_matches(key, value, answer[key]) for value in self._values(key))
            for key in self.filters
            if key in answer
        )

    def _values(self, key: str) -> tuple[str, ...]:
        return self.filters.get(key, ())


def is_address(text: str) -> bool:
    """Whether this is meant as an address, and not as a folder or a pipeline."""
    return "://" in text


def is_uid(text: str) -> bool:
    """Digits and dots, at most 64 (PS3.5 9.1); leading zeros, which occur, are let pass."""
    return _UID.fullmatch(text) is not None


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        SettingsError: if it is wrong; the message quotes neither values nor what stands before
            an ``@``.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong("not an address", _EXAMPLE) from None
    if parts.scheme not in _SCHEMES:
        raise _wrong("an unknown kind of address", ", ".join(f"{one}://" for one in _SCHEMES))
    if not host or ":" in host or not re.fullmatch(r"[\w.-]+", host):
        raise _wrong("no host that can be used", "a name or an IPv4 address")
    if parts.fragment:
        raise _wrong("a part after '#'", _EXAMPLE, "write '#' in a value as %23")
    web = parts.scheme != "dimse"
    _check_credentials(parts, web)
    filters, options = _sort(asked, _WEB_OPTIONS if web else _DIMSE_OPTIONS)
    path = _path(parts, web)
    default = {"dicomweb+http": 80, "dicomweb+https": 443}.get(parts.scheme, _DICOM_PORT)
    return Address(
        scheme=parts.scheme,
        host=host,
        port=port or default,
        path=path,
        called="" if web else _title(unquote(parts.username or ""), "before the '@'"),
        calling=_title(options.get("calling", "MEDAUG"), "calling"),
        retrieve=_choice(options, "retrieve", ("get", "move")),
        receive_port=int(_number(options, "receive_port", _DICOM_PORT, 65535)),
        timeout=_number(options, "timeout", 60, 3600),
        filters=filters,
    )


def _check_credentials(parts: SplitResult, web: bool) -> None:
    if parts.password is not None or (web and parts.username is not None):
        raise _wrong(
            "a user or a password in the address",
            "none: others can read the command line",
            "put them into the environment: MEDAUG_PACS_USER and MEDAUG_PACS_PASSWORD, or "
            "MEDAUG_PACS_TOKEN (DICOMweb only); change a password that was typed here",
        )


def _path(parts: SplitResult, web: bool) -> str:
    path = parts.path.rstrip("/")
    if web and re.search(r"/(studies|series|instances)(/|$)", path):
        raise _wrong(
            "the path of a study, not of the service",
            "the path that /studies is added to",
            "cut it there, and give StudyInstanceUID= as a filter",
        )
    if not re.fullmatch(r"[\w./~%-]*", path) or (path and not web):
        raise _wrong("a path that cannot be used", _EXAMPLE)
    return path


def _sort(
    asked: list[tuple[str, str]], option_names: tuple[str, ...]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Filters and options of the query, checked."""
    names = (*STUDY_FILTERS, *SERIES_FILTERS)
    filters: dict[str, tuple[str, ...]] = {}
    options: dict[str, str] = {}
    for key, value in asked:
        if key in names:
            filters[key] = (*filters.get(key, ()), *_listed(key, value))
        elif key in option_names and key not in options:
            options[key] = value
        else:
            came = f"'{key}' twice" if key in options else "an unknown name before a '='"
            raise _wrong(came, ", ".join((*names, *option_names)))
    for key, values in filters.items():
        for value in values:
            _check_value(key, value)
    everything = _choice({"all": "no", **options}, "all", ("yes", "no")) == "yes"
    narrow = any(key in filters for key in (*STUDY_FILTERS, "Modality"))
    if narrow == everything:
        came = "all=yes together with a filter" if narrow else "no filter that selects studies"
        raise _wrong(
            came,
            f"one or more of {', '.join((*STUDY_FILTERS, 'Modality'))}; or all=yes",
            "say which studies are wanted: everything an archive holds is rarely meant",
        )
    return filters, options


def _listed(key: str, value: str) -> tuple[str, ...]:
    """``@FILE`` stands for the lines of a file, which no process listing shows."""
    if not value.startswith("@"):
        return (value.strip(),)
    try:
        lines = Path(value[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise _wrong(
            f"{key}=@FILE with a file that cannot be read", "a text file, one value per line"
        ) from None
    values = tuple(line.strip() for line in lines if line.strip())
    if not values:
        raise _wrong(f"{key}=@FILE with an empty file", "a text file, one value per line")
    return values


def _check_value(key: str, value: str) -> None:
    if not value.strip("*?"):
        raise _wrong(f"{key}= without a value", "something that selects; or all=yes")
    if "\\" in value or not value.isprintable():
        raise _wrong(f"a backslash or a control character in {key}", "one value")
    if key.endswith("UID") and not is_uid(value):
        raise _wrong(
            f"{key} that is no UID", "digits and dots", f"for several, repeat {key}=…&{key}=…"
        )
    if key == "StudyDate" and not _DATES.fullmatch(value):
        raise _wrong("StudyDate that is no date", "20240131, 20240101-20241231, 20240101-")
    if key == "Modality" and not re.fullmatch(r"[A-Z0-9_]{1,16}", value):
        raise _wrong("Modality that is none", "CT", "for several, repeat Modality=…&Modality=…")


def _matches(key: str, wanted: str, came: str) -> bool:
    """Single value, wild card and range matching (PS3.4 C.2.2.2), case aside."""
    came = came.strip()
    if key == "StudyDate" and "-" in wanted:
        first, last = wanted.split("-")
        return bool(came) and first <= came and (not last or came <= last)
    pattern = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in wanted)
    return re.fullmatch(pattern, came, re.IGNORECASE | re.DOTALL) is not None


def _title(text: str, where: str) -> str:
    if not _AET.fullmatch(text):
        raise _wrong(
            f"no application entity title ({where})", "1 to 16 characters, as dimse://TITLE@host"
        )
    return text


def _choice(options: Mapping[str, str], key: str, allowed: tuple[str, str]) -> str:
    value = options.get(key, allowed[0])
    if value not in allowed:
        raise _wrong(f"{key}= with another value", " or ".join(f"{key}={one}" for one in allowed))
    return value


def _number(options: Mapping[str, str], key: str, default: int, most: int) -> float:
    text = options.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= most:
        raise _wrong(f"{key}= with another value", f"a whole number from 1 to {most}")
    return int(text)


def _wrong(came: str, allowed: str, action: str = "") -> SettingsError:
    return SettingsError(Fault("address of an archive", came, allowed, action))
