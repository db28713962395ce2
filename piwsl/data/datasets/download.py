"""Downloads over HTTP that go on where they broke off."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import requests

from piwsl.runs.files import write_text

Progress: TypeAlias = Callable[[int, int | None], None]  # (bytes here, bytes in all or None where not known)

TIMEOUT = 30.0  # s without a sign of life
_PIECE = 1 << 15  # bytes; a broken connection loses at most one piece


class BrokenDownload(Exception):
    """An address did not give the file; the text says why, in a few words."""


@dataclass(frozen=True)
class _Origin:
    """What the bytes of a part file are part of: they are used again only for exactly this."""

    url: str
    validator: str | None  # ETag or date of the file at the server
    total: int | None


class Downloader:
    """Fetches one file through a part file beside it; what it has is kept when the connection breaks.

    The signature of a call is that of a downloader of pooch. A part file is continued only if address, length and
    validator (ETag or date) of the file are those it was begun with; a server that cannot continue starts anew.

    Args:
        part: the part file; another one beside it says where its bytes come from.
        progress: called with (bytes here, bytes in all).
    """

    def __init__(self, part: Path, progress: Progress | None = None) -> None:
        self.part = part
        self.origin_file = part.with_name(f"{part.name}.json")
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object = None, check_only: bool = False) -> None:
        """Download ``url`` to ``output_file``.

        Raises:
            BrokenDownload: the address does not give the file, or the connection broke without progress.
        """
        origin = self._known_origin(url)
        try:
            while not self._complete(origin):
                before = self._have()
                origin = self._fetch(url, origin)
                if origin is not None and not self._complete(origin) and self._have() <= before:
                    raise BrokenDownload(self._broken(url, origin))
        except requests.RequestException as error:
            raise BrokenDownload(_reason(url, error)) from error
        self.part.replace(output_file)
        self.origin_file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what is here."""
        self.part.unlink(missing_ok=True)
        self.origin_file.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _complete(self, origin: _Origin | None) -> bool:
        return origin is not None and origin.total is not None and self._have() == origin.total

    def _known_origin(self, url: str) -> _Origin | None:
        """The origin of the part file; None, and no part file, where it is not ``url``."""
        with suppress(OSError, ValueError, TypeError):
            origin = _Origin(**json.loads(self.origin_file.read_text()))
            if origin.url == url and self.part.exists():
                return origin
        self.discard()
        return None

    def _fetch(self, url: str, origin: _Origin | None) -> _Origin | None:
        """Get what is missing, until the end or until the connection breaks; None: begin anew."""
        have = self._have() if origin else 0
        with requests.get(url, headers=_headers(have, origin), stream=True, timeout=TIMEOUT) as response:
            if have and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.discard()
                return None
            _check(url, response)
            found = _origin(url, response)
            if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                if origin is None or found.total != origin.total or _begin(response) != have:
                    self.discard()  # another file than the one this part is of
                    return None
            else:  # the whole file, asked for or not
                have = 0
                self.part.unlink(missing_ok=True)
                write_text(self.origin_file, json.dumps(asdict(found)))
            self._append(response, have, found)
        if found.total is None:  # no length was announced: the end is the end
            return _Origin(url, found.validator, self._have())
        return found

    def _append(self, response: requests.Response, have: int, origin: _Origin) -> None:
        with self.part.open("ab") as stream:
            try:
                for piece in response.iter_content(_PIECE):
                    stream.write(piece)
                    have += len(piece)
                    if self.progress:
                        self.progress(have, origin.total)
            except requests.RequestException:
                if origin.total is None:  # nothing could tell half a file from a whole one
                    self.discard()
                    raise

    def _broken(self, url: str, origin: _Origin) -> str:
        total = f" of {origin.total / 1e6:.1f}" if origin.total else ""
        return (
            f"the connection to {_host(url)} broke after {self._have() / 1e6:.1f}{total} MB; the next try goes on there"
        )


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _headers(have: int, origin: _Origin | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "piwsl"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if origin is not None and origin.validator:
            headers["If-Range"] = origin.validator  # of a changed file the server then sends the whole
    return headers


def _begin(response: requests.Response) -> int | None:
    """First byte of a part, from ``Content-Range: bytes 100-199/200``."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _origin(url: str, response: requests.Response) -> _Origin:
    etag = response.headers.get("ETag")
    if etag is not None and etag.startswith("W/"):
        etag = None  # a weak one does not promise equal bytes
    total: int | None = None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        _, _, text = response.headers.get("Content-Range", "").partition("/")
        total = int(text) if text.isdigit() else None
    elif response.headers.get("Content-Length", "").isdigit():
        total = int(response.headers["Content-Length"])
    return _Origin(url, etag or response.headers.get("Last-Modified"), total)


def _check(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise BrokenDownload(f"{_host(url)} answers {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise BrokenDownload(f"{_host(url)} answers with a web page instead of the file")


def _reason(url: str, error: requests.RequestException) -> str:
    causes: list[Any] = [error]
    while causes[-1] is not None and len(causes) < 10:
        cause = causes[-1]
        causes.append(getattr(cause, "reason", None) or cause.__cause__ or cause.__context__ or _first(cause))
    names = {type(cause).__name__ for cause in causes}
    if "ConnectionRefusedError" in names or any("refused" in str(cause) for cause in causes):
        return f"{_host(url)} refuses the connection"
    if names & {"gaierror", "NameResolutionError"}:
        return f"no way to {_host(url)}: its name is not known here (is there a network?)"
    if isinstance(error, requests.Timeout):
        return f"{_host(url)} does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no trusted connection to {_host(url)}"
    return f"no connection to {_host(url)} ({type(error).__name__})"


def _first(error: BaseException) -> Any:
    return next((part for part in error.args if isinstance(part, BaseException)), None)
