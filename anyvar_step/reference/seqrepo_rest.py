"""A SeqRepo behind its REST service as a reference: ``seqrepo+http(s)://host/seqrepo``.

The service (biocommons/seqrepo-rest-service, version 1 of its API) answers ``metadata/NAMESPACE:ALIAS`` with
length and aliases, the refget accession among them, and ``sequence/NAMESPACE:ALIAS`` with a range of bases.
It cannot list an assembly's sequences, so that a contig is asked for when a VCF names it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from anyvar_step.errors import ConfigurationError, StepError, Unavailable
from anyvar_step.reference.aliases import habitual_names, table_names
from anyvar_step.reference.base import Contig
from anyvar_step.reference.fasta import Window
from anyvar_step.settings import masked

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

#: The namespace in which SeqRepo keeps refget accessions.
REFGET = "ga4gh"
#: Bases asked for at once, and how many such blocks of all contigs are kept.
BLOCK, KEPT = 1 << 17, 64
#: Seconds that one answer may take, and pauses before a request that failed is made again.
_TIMEOUT, PAUSES = 60.0, (0.2, 1.0, 5.0)
_ACCESSION = re.compile(r"SQ\.[A-Za-z0-9_-]{32}")


class Service:
    """The REST service at ``url``; connections are kept, and made anew in a forked process.

    Raises Unavailable where it does not answer, or only with errors, ConfigurationError where it is no such
    service.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/1"
        self.shown = masked(url)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._process = 0

    def metadata(self, identifier: str) -> dict[str, Any] | None:
        """What the service says of a sequence; None where it knows none, or several, by that identifier."""
        answer = self.get(f"metadata/{quote(identifier, safe=':')}")
        if answer is None:
            return None
        try:
            found: dict[str, Any] = answer.json()
            if isinstance(found["length"], int) and isinstance(found["aliases"], list):
                return found
        except (ValueError, KeyError, TypeError):
            pass
        raise self._stranger(answer)

    def bases(self, identifier: str, start: int, end: int) -> bytes:
        """The upper-case bases [start, end) of a sequence."""
        answer = self.get(f"sequence/{quote(identifier, safe=':')}", start=start, end=end)
        text = b"" if answer is None else answer.content.strip().strip(b'"')  # JSON's quotes, if any
        if len(text) != end - start or not text.isalpha():
            raise ConfigurationError(
                f"the SeqRepo {self.shown} gave {len(text)} bases for {identifier} from {start} to {end}",
                "Check the service and its data",
            )
        return text.upper()

    def get(self, path: str, **params: int) -> httpx.Response | None:
        """The answer to a request; None for 404, or 422 for a name of several sequences."""
        import httpx

        for pause in (*PAUSES, None):
            try:
                answer = self._connected().get(f"{self._url}/{path}", params=params or None)
                if answer.status_code < 500 and answer.status_code != 429:
                    break
                trouble = f"answers {answer.status_code} {answer.reason_phrase}"
            except httpx.HTTPError as error:
                trouble = f"does not answer: {error or type(error).__name__}"
            except httpx.InvalidURL as error:
                raise ConfigurationError(
                    f"{self.shown} is not a URL: {error}", "Use seqrepo+http://host:port/seqrepo"
                ) from None
            if pause is None:
                raise Unavailable(f"the SeqRepo {self.shown} {trouble}", "Is its REST service up?")
            time.sleep(pause)
        if answer.status_code in (404, 422):
            return None
        if not answer.is_success:
            raise self._stranger(answer)
        return answer

    def check(self) -> None:
        """Raise where the service does not answer, or is another one."""
        if self.get("ping") is None:
            raise ConfigurationError(
                f"{self.shown} is not the REST service of a SeqRepo: it has no {self.shown}/1/ping",
                "Name its root, such as seqrepo+http://localhost:5000/seqrepo",
            )

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None and self._process == os.getpid():
            self._client.close()

    def _connected(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client, self._process = (
                    httpx.Client(timeout=_TIMEOUT, follow_redirects=True),
                    os.getpid(),
                )
            return self._client

    def _stranger(self, answer: httpx.Response) -> ConfigurationError:
        return ConfigurationError(
            f"{self.shown} is not the REST service of a SeqRepo: it answers {answer.status_code} "
            f"{answer.reason_phrase} to {answer.url.path}",
            "Name its root, such as seqrepo+http://localhost:5000/seqrepo",
        )


class _Sequence:
    """One sequence as the source of a ``Window``, read in blocks."""

    def __init__(self, read: Any, identifier: str, size: int) -> None:
        self.size = size
        self._read = read
        self._identifier = identifier

    def window(self, start: int, stop: int) -> tuple[int, bytes]:
        """The blocks that hold [start, stop)."""
        first, last = start // BLOCK, (stop - 1) // BLOCK
        parts = [
            self._read(self._identifier, number * BLOCK, min((number + 1) * BLOCK, self.size))
            for number in range(first, last + 1)
        ]
        return first * BLOCK, b"".join(parts)

    def is_current(self) -> bool:
        """True: a sequence of that accession never changes."""
        return True

    def close(self) -> None:
        """Nothing of its own is open."""


class RestContig:
    """One sequence of a SeqRepo (see ``base.Contig``)."""

    def __init__(self, name: str, accession: str, length: int, read: Any) -> None:
        self.name = name
        self.accession = accession
        self.length = length
        self._window = Window(_Sequence(read, f"{REFGET}:{accession}", length))

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` where start < 0."""
        end = min(end, self.length)
        return self._window.read(start, end) if 0 <= start < end else b""


class RestReference:
    """The sequences that a SeqRepo has in the namespace of one assembly (see ``base.Reference``)."""

    def __init__(self, assembly: str, service: Service, aliases: Path | None = None) -> None:
        self.assembly = assembly
        self._service = service
        self._table = aliases
        self._known: dict[str, RestContig | None] = {}
        self._read = lru_cache(KEPT)(service.bases)

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias in any namespace; None where the assembly does not have it."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def contigs(self) -> list[Contig]:
        """The contigs that were asked for and are known: the service cannot list an assembly's."""
        return list({contig.name: contig for contig in self._known.values() if contig}.values())

    def is_current(self) -> bool:
        """True: the sequence of an accession never changes."""
        return True

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _found(self, name: str) -> RestContig | None:
        names = (name, *table_names(self._table, name), *habitual_names(name))
        for identifier in (*(f"{self.assembly}:{each}" for each in names), name):
            if (found := self._service.metadata(identifier)) and (contig := self._contig(found)):
                return contig
        return None

    def _contig(self, found: dict[str, Any]) -> RestContig | None:
        """A sequence as a contig of the assembly; None where it is another's.

        Of the assembly's names that with ``chr`` is its own, as VCFs mostly have it.
        """
        spaces: dict[str, list[str]] = {}
        for alias in found["aliases"]:
            space, _, each = str(alias).partition(":")
            spaces.setdefault(space, []).append(each)
        names = spaces.get(self.assembly, [])
        accession = next((each for each in spaces.get(REFGET, []) if _ACCESSION.fullmatch(each)), "")
        if not (names and accession):
            return None
        own = next((each for each in names if each.startswith("chr")), names[0])
        same = (contig for contig in self._known.values() if contig and contig.accession == accession)
        return next(same, None) or RestContig(own, accession, found["length"], self._read)


def open_service(uri: str) -> Service:
    """The service at ``seqrepo+http(s)://…``. Raises ConfigurationError where httpx is not installed."""
    try:
        import httpx  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the reference is a SeqRepo behind HTTP, and the package {error.name} is not installed",
            "Run: pip install 'anyvar-step[http]'",
        ) from None
    service = Service(uri.removeprefix("seqrepo+"))
    try:
        service.check()
    except StepError:
        service.close()
        raise
    return service
