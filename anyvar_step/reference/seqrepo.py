"""A SeqRepo as a reference: an instance's folder, or the REST service in front of one.

The folder's tables are read by biocommons.seqrepo; its bgzipped FASTAs are read here, by blocks, since
SeqRepo opens a file at each fetch. The service (biocommons/seqrepo-rest-service, version 1 of its API)
answers ``metadata/NAMESPACE:ALIAS`` with length and aliases, ``sequence/NAMESPACE:ALIAS`` with a range of
bases. It cannot list an assembly's sequences, so that a contig is requested when a VCF names it. Accessions
are SeqRepo's; nothing is digested.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from anyvar_step.errors import ConfigurationError, StepError, Unavailable
from anyvar_step.reference import fasta
from anyvar_step.reference.aliases import ContigAliases, habitual_names, table_names, unshared
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.reference.fasta import BlockedSource, FaiEntry, FastaContig
from anyvar_step.reference.refget import ACCESSION
from anyvar_step.settings import masked

if TYPE_CHECKING:
    import httpx

#: The namespace in which SeqRepo keeps refget accessions.
_REFGET = "ga4gh"


def open_seqrepo(assembly: str, uri: str, aliases: Path | None = None) -> Reference:
    """The SeqRepo at ``uri`` as the reference of ``assembly``.

    ``seqrepo+file:///path`` or ``seqrepo+:path``, which may be relative, is an instance's folder: its tables
    are read at once, so that forked processes may share it. ``seqrepo+http(s)://host/seqrepo`` is a REST
    service. Raises ConfigurationError if there is no SeqRepo, or a folder's does not know the assembly, and
    Unavailable if a service does not answer.
    """
    if _is_service(uri):
        return RestReference(assembly, _open_service(uri), aliases)
    root = _folder(uri)
    sequences = _sequences_of(_open_folder(root), assembly)
    if not sequences:
        raise ConfigurationError(
            f"the SeqRepo {root} has no sequence named {assembly}:…",
            "Name the assembly as the SeqRepo does: `seqrepo --root-directory DIR export` lists its names",
        )
    return SeqRepoReference(assembly, root, sequences, aliases)


def check(uri: str) -> None:
    """Raise as ``open_seqrepo`` does if the URI does not lead to a SeqRepo that can be read."""
    if _is_service(uri):
        _open_service(uri).close()
    else:
        _open_folder(_folder(uri))


def _is_service(uri: str) -> bool:
    return uri.startswith(("seqrepo+http://", "seqrepo+https://"))


def _own_name(names: list[str]) -> str:
    """Of the assembly's names for a sequence the one with ``chr``, as VCFs mostly have it."""
    return next((name for name in names if name.startswith("chr")), names[0])


class _Sequence(NamedTuple):
    """A row of SeqRepo's tables; ``file`` is a path below ``sequences``, ``key`` the name in that file."""

    key: str
    name: str
    accession: str
    length: int
    file: str
    #: all its aliases, those of the assembly first
    aliases: tuple[str, ...]


class SeqRepoReference:
    """The sequences in a SeqRepo's folder that it names in the namespace of one assembly (a Reference)."""

    def __init__(
        self, assembly: str, root: Path, sequences: list[_Sequence], table: Path | None = None
    ) -> None:
        self.assembly = assembly
        self._root = root
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._names = ContigAliases({sequence.name: sequence.length for sequence in sequences}, table)
        self._aliases = unshared(
            (alias, sequence.name) for sequence in sequences for alias in sequence.aliases
        )
        self._files: dict[str, tuple[BlockedSource, dict[str, FaiEntry]]] = {}
        self._contigs: dict[str, FastaContig] = {}

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias in any namespace; None if the assembly does not have it."""
        own = name if name in self._sequences else self._aliases.get(name) or self._names.resolve(name)
        return self._opened(self._sequences[own]) if own else None

    def contigs(self) -> list[Contig]:
        """All contigs, in the order in which they came into the SeqRepo."""
        return [self._opened(sequence) for sequence in self._sequences.values()]

    def is_current(self) -> bool:
        """Whether the files that were read are as they were; an instance of SeqRepo grows by new files."""
        return all(source.is_current() for source, _ in self._files.values())

    def close(self) -> None:
        """Close the files."""
        for source, _ in self._files.values():
            source.close()

    def _opened(self, sequence: _Sequence) -> FastaContig:
        """The sequence, ready to be read. Raises ConfigurationError if its file is not as it should be."""
        if sequence.name not in self._contigs:
            source, entries = self._file(sequence.file)
            entry = entries.get(sequence.key)
            if entry is None or entry.length != sequence.length:
                raise _damaged(self._root, f"{sequence.file} does not hold {sequence.name} as its tables say")
            if why := fasta.misfit(source, entry):
                raise _damaged(self._root, why)
            contig = FastaContig(source, entry)
            contig.name, contig.accession = sequence.name, sequence.accession
            self._contigs[sequence.name] = contig
        return self._contigs[sequence.name]

    def _file(self, name: str) -> tuple[BlockedSource, dict[str, FaiEntry]]:
        if name not in self._files:
            path = self._root / "sequences" / name
            try:
                index, blocks = fasta.prepare_fai(path, blocked=True)
                entries = {entry.name: entry for entry in fasta.read_fai(index)}
                self._files[name] = BlockedSource(path, blocks), entries
            except OSError as error:
                raise _damaged(self._root, f"{path} cannot be read: {error.strerror}") from None
        return self._files[name]


def _folder(uri: str) -> Path:
    """The folder that a URI names; like vrs-python, it takes a relative one and no host."""
    parts = urlsplit(uri)
    if parts.scheme not in ("seqrepo+", "seqrepo+file") or parts.netloc or not parts.path:
        raise ConfigurationError(
            f"{masked(uri)} names no SeqRepo",
            "Use seqrepo+file:///path/to/instance, seqrepo+:../relative/path or seqrepo+http://host:port/seqrepo",
        )
    return Path(parts.path)


def _open_folder(root: Path) -> Any:
    """The instance as biocommons.seqrepo opens it; its tables are SQLite databases."""
    try:
        from biocommons.seqrepo import SeqRepo
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the reference is a SeqRepo, and the package {error.name} is not installed",
            "Run: pip install 'anyvar-step[seqrepo]'",
        ) from None
    # It warns at each start that it caches no file descriptors; its own are not used here.
    logging.getLogger("biocommons.seqrepo.fastadir").setLevel(logging.WARNING)
    if not (root / "aliases.sqlite3").is_file():
        raise ConfigurationError(
            f"{root} is not a SeqRepo: it has no aliases.sqlite3",
            "Name the instance itself, such as /usr/local/share/seqrepo/2024-12-20",
        )
    try:
        return SeqRepo(str(root))
    except (OSError, RuntimeError, TypeError, sqlite3.Error) as error:
        raise _damaged(root, str(error)) from None


def _sequences_of(repo: Any, assembly: str) -> list[_Sequence]:
    """The assembly's sequences, by the order of their first name in it."""
    names: dict[str, list[tuple[int, str]]] = {}
    for row in repo.aliases.find_aliases(namespace=assembly):
        names.setdefault(row["seq_id"], []).append((row["seqalias_id"], row["alias"]))
    keys = sorted(names, key=lambda key: min(names[key]))
    return [_sequence(repo, key, [name for _, name in sorted(names[key])]) for key in keys]


def _sequence(repo: Any, key: str, names: list[str]) -> _Sequence:
    rows = list(repo.aliases.find_aliases(seq_id=key))
    [accession] = {row["alias"] for row in rows if row["namespace"] == _REFGET}
    about = repo.sequences.fetch_seqinfo(key)
    others = [row["alias"] for row in rows if row["alias"] not in names]
    return _Sequence(key, _own_name(names), accession, about["len"], about["relpath"], (*names, *others))


def _damaged(root: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"the SeqRepo {root} cannot be used: {why}", "Fetch it again: seqrepo pull")


#: Bases requested from a service at once, and how many such blocks of all contigs are kept.
BLOCK, KEPT = 1 << 17, 64
#: Seconds that one answer may take, and pauses before a request that failed is made again.
_TIMEOUT, PAUSES = 60.0, (0.2, 1.0, 5.0)


class Service:
    """The REST service at ``url``; connections are kept, and made anew in a forked process.

    Raises Unavailable if it does not answer, or only with errors, and ConfigurationError if it is no such
    service.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/1"
        self._shown = masked(url)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._process = 0

    def metadata(self, identifier: str) -> dict[str, Any] | None:
        """The service's record of a sequence; None if it has none, or several, by that identifier."""
        answer = self._get(f"metadata/{quote(identifier, safe=':')}")
        if answer is None:
            return None
        try:
            found: dict[str, Any] = answer.json()
            if isinstance(found["length"], int) and isinstance(found["aliases"], list):
                return found
        except (ValueError, KeyError, TypeError):
            pass
        raise self._other_service(answer)

    def bases(self, identifier: str, start: int, end: int) -> bytes:
        """The upper-case bases [start, end) of a sequence."""
        answer = self._get(f"sequence/{quote(identifier, safe=':')}", start=start, end=end)
        text = b"" if answer is None else answer.content.strip().strip(b'"')  # JSON's quotes, if any
        if len(text) != end - start or not text.isalpha():
            raise ConfigurationError(
                f"the SeqRepo {self._shown} gave {len(text)} bases for {identifier} from {start} to {end}",
                "Check the service and its data",
            )
        return text.upper()

    def check(self) -> None:
        """Raise if the service does not answer, or is another one."""
        if self._get("ping") is None:
            raise ConfigurationError(
                f"{self._shown} is not the REST service of a SeqRepo: it has no {self._shown}/1/ping",
                "Name its root, such as seqrepo+http://localhost:5000/seqrepo",
            )

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None and self._process == os.getpid():
            self._client.close()

    def _get(self, path: str, **params: int) -> httpx.Response | None:
        """The answer to a request; None for 404, or 422 for a name of several sequences."""
        import httpx

        for pause in (*PAUSES, None):
            try:
                answer = self._connected().get(f"{self._url}/{path}", params=params or None)
                if answer.status_code < 500 and answer.status_code != 429:
                    break
                failure = f"answers {answer.status_code} {answer.reason_phrase}"
            except httpx.HTTPError as error:
                failure = f"does not answer: {error or type(error).__name__}"
            except httpx.InvalidURL as error:
                raise ConfigurationError(
                    f"{self._shown} is not a URL: {error}", "Use seqrepo+http://host:port/seqrepo"
                ) from None
            if pause is None:
                raise Unavailable(f"the SeqRepo {self._shown} {failure}", "Is its REST service up?")
            time.sleep(pause)
        if answer.status_code in (404, 422):
            return None
        if not answer.is_success:
            raise self._other_service(answer)
        return answer

    def _connected(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client = httpx.Client(timeout=_TIMEOUT, follow_redirects=True)
                self._process = os.getpid()
            return self._client

    def _other_service(self, answer: httpx.Response) -> ConfigurationError:
        return ConfigurationError(
            f"{self._shown} is not the REST service of a SeqRepo: it answers {answer.status_code} "
            f"{answer.reason_phrase} to {answer.url.path}",
            "Name its root, such as seqrepo+http://localhost:5000/seqrepo",
        )


def _open_service(uri: str) -> Service:
    """The service at ``seqrepo+http(s)://…``. Raises ConfigurationError if httpx is not installed."""
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


class RestContig:
    """One sequence behind the service (a Contig); ``read`` gives the bases [start, end) of an identifier."""

    def __init__(
        self, name: str, accession: str, length: int, read: Callable[[str, int, int], bytes]
    ) -> None:
        self.name = name
        self.accession = accession
        self.length = length
        self._read = read

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` if start < 0."""
        end = min(end, self.length)
        if not 0 <= start < end:
            return b""
        first = start // BLOCK * BLOCK
        blocks = [
            self._read(f"{_REFGET}:{self.accession}", begin, min(begin + BLOCK, self.length))
            for begin in range(first, end, BLOCK)
        ]
        return b"".join(blocks)[start - first : end - first]


class RestReference:
    """The sequences behind the service that it names in the namespace of one assembly (a Reference)."""

    def __init__(self, assembly: str, service: Service, table: Path | None = None) -> None:
        self.assembly = assembly
        self._service = service
        self._table = table
        self._known: dict[str, RestContig | None] = {}
        self._read = lru_cache(KEPT)(service.bases)

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias in any namespace; None if the assembly does not have it."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def contigs(self) -> list[Contig]:
        """The contigs that were requested and are known: the service cannot list an assembly's."""
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
        """A sequence as a contig of the assembly; None if it is another assembly's."""
        aliases: dict[str, list[str]] = {}
        for alias in found["aliases"]:
            namespace, _, each = str(alias).partition(":")
            aliases.setdefault(namespace, []).append(each)
        names = aliases.get(self.assembly, [])
        accession = next((each for each in aliases.get(_REFGET, []) if ACCESSION.fullmatch(each)), "")
        if not (names and accession):
            return None
        same = (contig for contig in self._known.values() if contig and contig.accession == accession)
        return next(same, None) or RestContig(_own_name(names), accession, found["length"], self._read)
