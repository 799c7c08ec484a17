"""An archive that speaks DICOMweb: QIDO-RS to ask, WADO-RS to bring (PS3.18 10.4, 10.6).

The server named in the address is spoken to and nobody else: redirects are not followed, and
proxies and ``.netrc`` of the environment are not used, because a question carries Patient IDs and
a login. Certificates are verified, against the file ``MEDAUG_PACS_CA`` names where it is set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from medaug.errors import Fault, ReaderError, SettingsError
from medaug.readers.oddities import UNREADABLE
from medaug.readers.pacs.address import Address
from medaug.readers.pacs.fetch import Instance, Keep, Level, Series

_PAGE = 200
_CONNECT_S = 10.0
# A busy archive is asked again, at once and then after 2 and 4 s; nothing else is tried twice.
_BUSY = (429, 503)
_RETRY = Retry(
    total=None,
    connect=0,
    read=False,  # a timeout stays one
    redirect=0,
    other=0,
    status=3,
    status_forcelist=_BUSY,
    backoff_factor=1,
    respect_retry_after_header=False,
    raise_on_status=False,
)
# Some servers take escapes in a question for letters. What would need one is asked for as any sign
# (PS3.4 C.2.2.2.4); that the answers hold the very value is checked where they come in.
_NEEDS_ESCAPE = re.compile(r"[^A-Za-z0-9._~*?-]")
_ESCAPED_NEEDLESSLY = {"%2A": "*", "%3F": "?"}  # RFC 3986 3.4
_FINAL = (401, 403, 407, *_BUSY)
_ANSWERS = {
    401: "the login was not accepted",
    403: "this user may not do that",
    404: "there is no DICOMweb service at this path",
    407: "a proxy stands in between",
    429: "the server is busy",
    503: "the server is busy",
}
_FOR_ONE = "asked for an instance"
_LOGIN = "set MEDAUG_PACS_USER and MEDAUG_PACS_PASSWORD, or MEDAUG_PACS_TOKEN"
_ACTIONS = {
    401: _LOGIN,
    403: "ask the administrator of the archive for the right to search and retrieve",
    404: "check the path (often /dicom-web), and that the server's DICOMweb part is installed",
    429: "try again later",
    503: "try again later",
}


class DicomWeb:
    """One server; see `medaug.readers.pacs.Archive`."""

    def __init__(self, wanted: Address, session: requests.Session) -> None:
        self._wanted = wanted
        self._client = DICOMwebClient(
            wanted.service,
            session=session,
            callback=_refuse_partial,
            permissive_uid=True,  # UIDs are checked where they come in
            timeout=(min(_CONNECT_S, wanted.timeout), wanted.timeout),
        )
        # Its own retries follow any exception, also Ctrl-C.
        self._client.set_http_retry_params(retry=False)

    def find(self, level: Level, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Ask; the answers come page by page, until one brings nothing new."""
        ask = self._question(level, dict(keys))
        seen: set[tuple[str, ...]] = set()
        while True:
            before = len(seen)
            for answer in self._asked(partial(ask, limit=_PAGE, offset=before)):
                one = {key: _value(answer, key) for key in keys}
                if (known := tuple(one.values())) not in seen:
                    seen.add(known)
                    yield one
            if len(seen) == before:
                return

    def retrieve(
        self, series: Series, instances: Sequence[Instance], _whole: bool, keep: Keep
    ) -> str:
        """Bring instances one by one; why one was not delivered, or ""."""
        why = ""
        for instance in instances:
            try:
                content = self._asked(partial(self._content, series, instance), _FOR_ONE)
            except _UndeliveredError as reason:
                why = str(reason)
            else:
                why = keep(instance.uid, content) or why
        return why

    def store(self, files: Sequence[Path]) -> dict[Path, str]:
        """Send instances (STOW-RS, PS3.18 10.5); why those that were not taken were not."""
        instances = {path: dcmread(path) for path in files}
        ask = partial(self._client.store_instances, [*instances.values()])
        try:
            answer = self._asked(ask, "asked to store instances")
        except _UndeliveredError as reason:
            return dict.fromkeys(files, str(reason))
        failed = {
            str(one.get("ReferencedSOPInstanceUID", "")): int(one.get("FailureReason", 0))
            for one in answer.get("FailedSOPSequence", ())
        }
        return {
            path: f"the server refused it (failure reason 0x{failed[uid]:04X})"
            for path, one in instances.items()
            if (uid := str(one.SOPInstanceUID)) in failed
        }

    def _question(self, level: Level, keys: dict[str, str]) -> Callable[..., Any]:
        search: Any
        above: tuple[str, ...]
        if level == "STUDY":
            search, above = self._client.search_for_studies, ()
        elif level == "SERIES":
            search, above = self._client.search_for_series, ("StudyInstanceUID",)
        else:
            search = self._client.search_for_instances
            above = ("StudyInstanceUID", "SeriesInstanceUID")
        places = [keys.pop(key) for key in above]
        filters = {key: _NEEDS_ESCAPE.sub("?", value) for key, value in keys.items() if value}
        fields = [key for key, value in keys.items() if not value]
        return partial(search, *places, search_filters=filters or None, fields=fields or None)

    def _content(self, series: Series, instance: Instance) -> bytes:
        """The instance as a file, in the transfer syntax in which the archive holds it."""
        dataset = self._client.retrieve_instance(
            series.study, series.series, instance.uid, (("application/dicom", "*"),)
        )
        file = BytesIO()
        dataset.save_as(file)
        return file.getvalue()

    def _asked(self, ask: Callable[[], Any], one: str = "") -> Any:
        """The answer; refusals and faults of the network become a `ReaderError`.

        Args:
            ask: sends a request.
            one: what it asks for, where that is one of many, so that a refusal need not concern
                the others.

        Raises:
            _UndeliveredError: such a refusal of one instance, or an instance that is not DICOM.
        """
        try:
            return ask()
        except requests.HTTPError as error:
            status = int(getattr(error.response, "status_code", 0))
            came = f"the server answered HTTP {status}"
            if one and status not in _FINAL:
                raise _UndeliveredError(f"{one}, {came}") from None
            if status in _ANSWERS:
                came += f": {_ANSWERS[status]}"
            action = _ACTIONS.get(status, "ask the administrator of the archive")
        except requests.RequestException as error:
            came, action = _network(error, self._wanted.timeout)
        except UNREADABLE:
            if one:
                raise _UndeliveredError("what came for an instance is not DICOM") from None
            came, action = "an answer that is not DICOMweb", "check host, port and path"
        raise ReaderError(Fault(self._wanted.shown, came, action=action)) from None


@contextmanager
def open_dicomweb(wanted: Address) -> Iterator[DicomWeb]:
    """A session with the login and certificates of the environment.

    Raises:
        SettingsError: if those are incomplete.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.max_redirects = 0
        session.auth = _login()
        session.verify = _certificates()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(max_retries=_RETRY))
        yield DicomWeb(wanted, session)


class _Adapter(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *rest: Any, **more: Any) -> requests.Response:
        for escaped, sign in _ESCAPED_NEEDLESSLY.items():
            request.url = (request.url or "").replace(escaped, sign)
        return super().send(request, *rest, **more)


class _Bearer(AuthBase):
    """RFC 6750 2.1."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _login() -> AuthBase | None:
    names = ("MEDAUG_PACS_USER", "MEDAUG_PACS_PASSWORD", "MEDAUG_PACS_TOKEN")
    user, password, token = (os.environ.get(name, "") for name in names)
    if bool(user) != bool(password) or (user and token):
        raise SettingsError(
            Fault(
                "environment",
                "an incomplete login, or two",
                f"{names[0]} and {names[1]}, or {names[2]} alone",
            )
        )
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise SettingsError(Fault("environment", f"{names[2]} is no token", "ASCII, no blanks"))
    if token:
        return _Bearer(token)
    # As bytes: requests would put a string into Latin-1 (RFC 7617 2.1 recommends UTF-8).
    return HTTPBasicAuth(user.encode(), password.encode()) if user else None


def _certificates() -> str | bool:
    path = os.environ.get("MEDAUG_PACS_CA", "")
    if path and not Path(path).is_file():
        raise SettingsError(
            Fault("environment", "MEDAUG_PACS_CA names no file", "certificates in PEM")
        )
    return path or True


def _network(error: requests.RequestException, timeout: float) -> tuple[str, str]:
    """What came, and what to do; the text of the error is dropped, for it quotes the question."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "its certificate was not accepted",
            "set MEDAUG_PACS_CA to a file with the certificate of the hospital's authority",
        )
    if isinstance(error, requests.ConnectTimeout):
        return "nobody answers at this host and port", "check them, and the firewall"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s", "try again later, or with a longer timeout="
    if isinstance(error, requests.TooManyRedirects):
        return (
            "the server redirects, which is not followed",
            "give the address it leads to (often https instead of http)",
        )
    if isinstance(error, _BrokenOffError | requests.exceptions.ChunkedEncodingError):
        return "the connection broke off in the middle", "run the same command again"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "an answer that is not DICOMweb", "check host, port and path"
    if isinstance(error, requests.ConnectionError):
        return "no connection", "check host and port, that the server runs, and the firewall"
    return "a fault of the connection", "check host, port and path"


class _UndeliveredError(Exception):
    """The server answers, but not with this instance; the text says why."""


class _BrokenOffError(requests.RequestException):
    """The multipart message ends before its closing delimiter."""


def _refuse_partial(response: requests.Response, *_: object, **__: object) -> None:
    """Without a Content-Length, a connection that breaks looks like the end (RFC 2046 5.1.1)."""
    kind = response.headers.get("Content-Type", "")
    boundary = re.search(r'boundary="?([^";]+)', kind, re.IGNORECASE)
    if not response.ok or boundary is None or not kind.lower().startswith("multipart/"):
        return
    if not response.content.rstrip().endswith(f"--{boundary[1].strip()}--".encode()):
        raise _BrokenOffError


def _value(answer: Any, keyword: str) -> str:
    """The first value of an attribute in the DICOM JSON model (PS3.18 F.2), as text."""
    try:
        tag = tag_for_keyword(keyword)
        return str(answer[f"{tag:08X}"]["Value"][0]).strip()
    except (LookupError, TypeError):
        return ""
