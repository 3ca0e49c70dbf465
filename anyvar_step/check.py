"""Checks of a deployment before its first run: settings, Redis, work dir, workers and web API."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import stat
import statistics
import time
import timeit
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import redis

from anyvar_step import __version__
from anyvar_step.client.http import ApiClient
from anyvar_step.errors import (
    AccessRefused,
    ConfigurationError,
    FileTrouble,
    StepError,
    Unavailable,
    from_name,
)
from anyvar_step.runs.connection import broker, connect, translated
from anyvar_step.runs.keys import malformed_key, step_key
from anyvar_step.runs.sweep import UNACKED
from anyvar_step.runs.work_dir import Probe, WorkDir, check_answer, probe
from anyvar_step.runs.worker_registry import ProbeAnswer, Trouble, WorkerRecord, WorkerRegistry
from anyvar_step.settings import ANY_ASSEMBLY, Settings, masked

#: Of several errors the first in this order decides: permanent ones come before those that may pass.
ORDER = (78, 77, 66, 65, 70, 74, 75, 69, 124)
#: Round trips of which the median is reported, and the number of seconds from which it is slow.
PINGS, SLOW = 9, 0.1
#: Shares: of memory or connections in use, of free bytes, of free inodes; and free bytes.
NEARLY_FULL, LITTLE_SHARE, FEW_INODES, LITTLE = 0.8, 0.02, 0.01, 10 << 30
#: Seconds within which the workers answer (a store may take ten to fail), and by which clocks may differ.
PATIENCE, SKEW = 25.0, 30.0
#: The oldest messages of the queue, of which the tasks are read.
MESSAGES = 500
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Finding:
    """One finding; ``exit_code`` is 0 except for errors, ``worker`` names the worker that it is about."""

    about: str
    level: Literal["ok", "note", "warning", "error"]
    what: str
    remedy: str = ""
    exit_code: int = 0
    worker: str = ""


def failed(about: str, error: StepError, worker: str = "") -> Finding:
    """The failure as a finding."""
    return Finding(about, "error", error.what, error.remedy, error.exit_code, worker)


def warning(about: str, what: str, remedy: str, worker: str = "") -> Finding:
    """A finding that does not keep runs from ending well now."""
    return Finding(about, "warning", what, remedy, worker=worker)


def exit_code(findings: Iterable[Finding]) -> int:
    """The exit code of the worst error, 0 without errors."""
    codes = {finding.exit_code for finding in findings} - {0}
    return next((code for code in ORDER if code in codes), max(codes, default=0))


def check(settings: Settings, assemblies: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Findings about settings, Redis, work dir and workers, from this host. Raises nothing.

    The workers must know ``assemblies``.
    """
    yield from check_settings(settings)
    broken = False
    for finding in [*check_redis(settings), *check_storage(settings)]:
        # A Redis that is set up wrong can be asked, one that is out of reach cannot.
        broken |= finding.exit_code != 0 if finding.about == "work dir" else finding.exit_code in (69, 77)
        yield finding
    if broken:
        yield Finding("workers", "note", "not asked because of the errors above")
        return
    try:
        yield from check_workers(settings, assemblies)
    except StepError as error:
        yield failed("workers", error)


# -- settings ---------------------------------------------------------------------------------------------


def check_names(settings: Settings) -> Iterator[Finding]:
    """Variables that begin with ANYVAR_STEP_ and are no settings."""
    for name, remedy in settings.mistyped.items():
        yield warning("settings", f"{name} is no setting", remedy)


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Limits, deliveries, file modes, and secrets on the network."""
    soft, hard, kept = settings.soft_time_limit, settings.task_time_limit, settings.result_expires
    yield Finding("settings", "ok", f"the time limit of a run is {soft} s; its result is kept {kept} s")
    if kept < hard:
        yield warning(
            "settings",
            f"CELERY_RESULT_EXPIRES ({kept} s) is below CELERY_TASK_TIME_LIMIT ({hard} s): a run that was "
            "submitted without a step that waits may expire before it ends",
            "Raise them together: anyvar-step config --for 8h prints a set that fits",
        )
    if settings.task_reject_on_worker_lost:
        yield warning(
            "settings",
            "CELERY_TASK_REJECT_ON_WORKER_LOST queues a run again whenever its process is killed: one that "
            "needs more memory than there is never ends",
            "Set it to false: a step submits a lost run again, --resubmit times",
        )
    if settings.worker_prefetch_multiplier == 0:
        yield warning(
            "settings",
            "CELERY_WORKER_PREFETCH_MULTIPLIER=0 lets the first worker reserve all runs of the queue",
            "Set it to 1",
        )
    if settings.work_dir_mode is not None and settings.work_dir_mode & 0o007:
        yield warning(
            "settings",
            f"ANYVAR_STEP_WORK_DIR_MODE={settings.work_dir_mode:04o} lets every user read the inputs of runs",
            "Set it to 0660, and give step and workers a common group",
        )
    for variable, url in _urls(settings).items():
        for each in url.split(";"):
            yield from _check_url(variable, each)


def _urls(settings: Settings) -> dict[str, str]:
    """The URLs of Redis by variable; one where both are the same."""
    urls = {"CELERY_BROKER_URL": settings.broker_url}
    if settings.backend_url != settings.broker_url:
        urls["CELERY_BACKEND_URL"] = settings.backend_url
    return urls


def _check_url(variable: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme != "redis" or is_local(parts.hostname or "localhost"):
        return
    if parts.password is None:
        yield warning(
            "settings",
            f"{masked(url)} has no password: all who reach it may queue, read and cancel runs",
            "Give Redis a password (requirepass); see docs/security.md",
        )
    else:
        yield warning(
            "settings",
            f"{masked(url)} sends its password in plain text through the network",
            f"Use rediss:// in {variable}; see docs/security.md",
        )


def is_local(host: str) -> bool:
    """Whether the host is this one, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# -- Redis ------------------------------------------------------------------------------------------------


def check_redis(settings: Settings) -> Iterator[Finding]:
    """The broker, its queue, and the backend where it is another Redis."""
    for variable, url in _urls(settings).items():
        about = "broker" if variable == "CELERY_BROKER_URL" else "backend"
        try:
            with translated(url, variable), connect(url) as client:
                yield from _check_server(about, url, client)
                if about == "broker":
                    yield from _check_queue(settings)
        except StepError as error:
            yield failed(about, error)


def _check_server(about: str, url: str, client: redis.Redis) -> Iterator[Finding]:
    client.ping()  # connects
    seconds = statistics.median(timeit.repeat(client.ping, number=1, repeat=PINGS))
    _try_rights(client)
    try:
        info: dict[str, Any] = client.info()
    except redis.ResponseError as error:
        info = {}
        yield warning(
            about,
            f"Redis does not tell its configuration ({error}): eviction and persistence are not checked",
            "Let this user call INFO: ACL SETUSER … +info",
        )
    version = f", Redis {info['redis_version']}" if "redis_version" in info else ""
    what = f"{masked(url)} answers in {seconds * 1000:.1f} ms{version}"
    if seconds < SLOW:
        yield Finding(about, "ok", what)
    else:
        yield warning(about, what, "Put Redis nearer to the workers; a run needs some 100 round trips")
    if info:
        yield from kind(about, url, info)
        yield from eviction(about, info)
        yield from persistence(about, info, _saves(client))
        yield from room(about, info)


def _try_rights(client: redis.Redis) -> None:
    """Write, read and delete a key of ours."""
    key = step_key("check", secrets.token_hex(8))
    client.set(key, "1", ex=10)
    client.get(key)
    client.delete(key)


def kind(about: str, url: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Celery needs one server that takes writes."""
    if info.get("cluster_enabled"):
        what = f"{masked(url)} is a Redis Cluster, which Celery cannot use"
        yield failed(about, ConfigurationError(what, "Name a single server, or sentinels"))
    if info.get("role") in ("slave", "replica"):
        yield failed(
            about, ConfigurationError(f"{masked(url)} is a read-only replica", "Name the primary server")
        )


def eviction(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Every policy but noeviction deletes queues, bindings or states when memory runs out."""
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield Finding(about, "ok", "nothing is evicted (maxmemory-policy noeviction)")
        return
    what = f"maxmemory-policy is {policy}, which deletes queued runs or their states when memory is short"
    remedy = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if most:
        yield failed(about, ConfigurationError(what, remedy))
    else:
        yield warning(about, f"{what}; no limit (maxmemory) is set yet", remedy)


def persistence(about: str, info: dict[str, Any], saves: str | None) -> Iterator[Finding]:
    """Whether runs outlive a restart; ``saves`` is the setting ``save``, None where it is not known."""
    remedy = "redis-cli CONFIG SET appendonly yes, and the same in redis.conf"
    if info.get("aof_last_write_status", "ok") != "ok" or (
        saves != "" and info.get("rdb_last_bgsave_status", "ok") != "ok"
    ):
        trouble = "Redis cannot write to its disk, and may refuse what steps and workers write"
        yield failed(about, FileTrouble(trouble, "Make room in its dir, and see its log"))
    if info.get("aof_enabled"):
        yield Finding(about, "ok", "runs outlive a restart of Redis (appendonly yes)")
    elif saves == "":
        yield warning(about, "a restart of Redis loses all queued and running runs", remedy)
    else:
        lost = "what came after its last snapshot" if saves else "runs, unless it takes snapshots"
        yield warning(about, f"a crash of Redis loses {lost}: appendonly is off", remedy)


def room(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Memory and connections."""
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used >= most:
        yield failed(about, Unavailable(f"Redis is full: {used} of {most} bytes", "Raise maxmemory"))
    elif most and used > NEARLY_FULL * most:
        yield warning(about, f"{used} of {most} bytes of memory are in use", "Raise maxmemory")
    clients, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if limit and clients > NEARLY_FULL * limit:
        what = f"{clients} of {limit} connections are in use"
        yield warning(about, what, "Raise maxclients: a waiting step takes one, a worker some ten")


def _saves(client: redis.Redis) -> str | None:
    """The setting ``save``; None where CONFIG is not allowed, as with rented servers."""
    try:
        return str(client.config_get("save").get("save", ""))
    except redis.ResponseError:
        return None


def _check_queue(settings: Settings) -> Iterator[Finding]:
    name = settings.task_default_queue
    try:
        with broker(settings) as client:
            waiting, taken = client.llen(name), client.hlen(UNACKED)
            malformed = client.llen(malformed_key(name))
    except AccessRefused as error:
        yield failed("queue", error)
        return
    yield Finding("queue", "ok", f"{waiting} runs wait in {name}; workers of this Redis hold {taken}")
    if malformed:
        what = f"{malformed} malformed messages were moved from {name} to the list {malformed_key(name)}"
        remedy = "Find the program that wrote them; anyvar-step sweep --malformed deletes the list"
        yield warning("queue", what, remedy)


# -- the work dir -----------------------------------------------------------------------------------------


def check_storage(settings: Settings) -> Iterator[Finding]:
    """The work dir from this host; ``check_workers`` finds out whether workers see the same one."""
    try:
        workdir = WorkDir.of(settings)
        root = workdir.root
        workdir.check()
        begin = time.perf_counter()
        with probe(workdir, secrets.token_hex(8)):
            seconds = time.perf_counter() - begin
    except StepError as error:
        yield failed("work dir", error)
        return
    kind = filesystem(root)
    yield Finding("work dir", "ok", f"{root} ({kind}) takes a small file in {seconds * 1000:.1f} ms")
    if kind in _IN_MEMORY:
        what = f"{root} is in the memory of this host: no other host sees it, and a restart empties it"
        yield warning("work dir", what, "Use a directory of the shared file system")
    yield from _check_space(root)
    yield from _check_mode(root)


def _check_space(root: Path) -> Iterator[Finding]:
    space = os.statvfs(root)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    what = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free"
    remedy = "Make room: a run needs twice the size of its VCF; anyvar-step sweep removes files of dead runs"
    if free == 0:
        yield failed("work dir", FileTrouble(f"{root} is full", remedy))
    elif free < min(LITTLE, LITTLE_SHARE * total):
        yield warning("work dir", what, remedy)
    else:
        yield Finding("work dir", "ok", what)
    if space.f_files and space.f_favail < FEW_INODES * space.f_files:
        what = f"{space.f_favail} of {space.f_files} inodes are free"
        yield warning("work dir", what, "Remove small files: a run needs some five for a while")


def _check_mode(root: Path) -> Iterator[Finding]:
    """Inputs are genomes: only step and workers should reach them."""
    mode = stat.S_IMODE(root.stat().st_mode)
    remedy = f"chmod 2770 {root}, with a group for step and workers"
    if mode & 0o002 and not mode & stat.S_ISVTX:
        yield warning(
            "work dir", f"every user may rename and remove files in {root} (mode {mode:04o})", remedy
        )
    elif mode & 0o005:
        what = f"every user may list {root} (mode {mode:04o}); its files are closed to them"
        yield Finding("work dir", "note", what, remedy)


def filesystem(path: Path) -> str:
    """The type of the file system that holds the path, as Linux names it; ``unknown`` elsewhere."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    real, best, kind = path.resolve(), -1, "unknown"
    for line in lines:
        before, _, after = line.partition(" - ")
        # Spaces in a mount point are written as \040.
        place = Path(before.split()[4].encode().decode("unicode_escape"))
        if real.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), after.split()[0]
    return kind


# -- workers ----------------------------------------------------------------------------------------------


def check_workers(settings: Settings, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Each worker of the queue, and all of them together. Raises StepError where they cannot be asked."""
    registry, queue = WorkerRegistry(settings), settings.task_default_queue
    ours, others = registry.workers_of(queue), registry.others()
    elsewhere = {name for worker in others for name in worker.queues}
    others = [worker for worker in others if queue in worker.queues]
    if not (ours or others):
        elsewhere |= {name for name in registry.queues() if registry.workers_of(name)}
        yield _unserved(queue, sorted(elsewhere))
        return
    for record in ours:
        yield _version(record)
    for worker in others:
        yield Finding(
            "workers",
            "note",
            f"{_processes(worker.processes)} of another program, such as AnyVar: its work dir, reference and "
            "store are not known here",
            "To have them checked, start anyvar-step worker in its place",
            worker=worker.name,
        )
    if ours:
        if not others:
            yield from check_tasks(settings, {task for record in ours for task in record.tasks})
        yield from _check_each(settings, registry, ours, assemblies)
        yield from _check_together(settings, ours)


def _unserved(queue: str, elsewhere: list[str]) -> Finding:
    if not elsewhere:
        return failed("workers", Unavailable("no worker answers", "Start one: anyvar-step worker"))
    what = f"no worker serves {queue}: those here serve {', '.join(elsewhere)}"
    return failed("workers", Unavailable(what, "Give steps and workers the same CELERY_TASK_DEFAULT_QUEUE"))


def _processes(number: int) -> str:
    return f"{number} process{'es' if number > 1 else ''}"


def _version(record: WorkerRecord) -> Finding:
    engine = f", {record.engine} engine" if record.engine else ""
    what = f"{_processes(record.processes)} of anyvar-step {record.version}{engine}"
    if record.version == __version__:
        return Finding("workers", "ok", what, worker=record.name)
    remedy = "Install one version on all hosts: VRS identifiers of different versions may differ"
    return warning("workers", f"{what}, and this is {__version__}", remedy, record.name)


def check_tasks(settings: Settings, served: set[str]) -> Iterator[Finding]:
    """Tasks in the queue that no worker serves; a worker of another program is taken to serve all others."""
    with broker(settings) as client:
        messages = client.lrange(settings.task_default_queue, -MESSAGES, -1)
    waiting = set[str]()
    for message in messages:
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            waiting.add(str(json.loads(message)["headers"]["task"]))
    for task in sorted(waiting - served):
        remedy = "Start a worker that does: AnyVar's own serves the tasks of its web API"
        yield warning("queue", f"{task} waits in the queue, and no worker of the queue serves it", remedy)


def _check_each(
    settings: Settings, registry: WorkerRegistry, ours: list[WorkerRecord], assemblies: tuple[str, ...]
) -> Iterator[Finding]:
    """What each of our workers can use, by a probe in the work dir that it answers."""
    workdir = WorkDir.of(settings, PATIENCE)
    token, records = secrets.token_hex(8), {record.id: record for record in ours}
    with probe(workdir, token) as laid:
        for record in ours:
            registry.request_answer(record, token)
        answers = {
            answer.id: answer
            for answer in registry.gather_answers(token, len(ours), PATIENCE)
            if answer.id in records
        }
        for worker_id, answer in answers.items():
            yield _check_work_dir(settings, workdir, laid, records[worker_id], answer)
    if laid.folder.exists():
        what = f"the files of workers in {laid.folder} cannot be removed from here"
        remedy = "Give step and workers a common group: chmod 2770 on the work dir"
        yield failed("work dir", AccessRefused(what, remedy))
    for record in ours:
        if (found := answers.get(record.id)) is None:
            trouble = Unavailable("it did not answer in time", "See its log; is a file system hanging?")
            yield failed("workers", trouble, record.name)
        found = found or ProbeAnswer(id=record.id)
        yield from references(record, found, assemblies)
        yield store(record, found)
        yield from clock(record, found)


def _check_work_dir(
    settings: Settings, workdir: WorkDir, laid: Probe, record: WorkerRecord, answer: ProbeAnswer
) -> Finding:
    expected = str(settings.worker_work_dir or settings.required_work_dir())
    if trouble := answer.work_dir_trouble:
        # A file that never appears is another directory, most likely; AccessRefused and a full disk say so.
        kind = from_name(trouble.kind)
        kind = ConfigurationError if kind is FileTrouble else kind
        who = f"as {record.user} on {record.host} it"
        what = f"{who} does not see our probe in {record.work_dir}: {trouble.what}"
        remedy = trouble.remedy or "Step, web API and workers must share ANYVAR_VCF_ASYNC_WORK_DIR"
        return failed("work dir", kind(what, remedy), record.name)
    try:
        check_answer(workdir, laid, answer.answer)
    except StepError as error:
        return failed("work dir", error, record.name)
    if record.work_dir != expected:
        what = f"its work dir is {record.work_dir}, and it would refuse our paths below {expected}"
        remedy = f"Set ANYVAR_STEP_WORKER_WORK_DIR={record.work_dir} for the steps"
        return failed("work dir", ConfigurationError(what, remedy), record.name)
    what = f"{record.user} on {record.host} reads our files, and we read its files"
    return Finding("work dir", "ok", what, worker=record.name)


def references(record: WorkerRecord, answer: ProbeAnswer, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Each reference of the worker, and those of ``assemblies`` that it lacks."""
    for assembly, found in sorted(record.references.items()):
        name = "any assembly" if assembly == ANY_ASSEMBLY else assembly
        if trouble := answer.reference_troubles.get(assembly):
            yield failed("reference", _failure(trouble, f"{name}: "), record.name)
        else:
            yield Finding("reference", "ok", f"{name}: {found.contigs} contigs", worker=record.name)
    if trouble := answer.seqrepo_trouble:
        yield failed("reference", _failure(trouble), record.name)
    elif record.seqrepo:
        yield Finding("reference", "ok", f"other assemblies from {record.seqrepo}", worker=record.name)
    for assembly in assemblies:
        if not ({assembly, ANY_ASSEMBLY} & record.references.keys() or record.seqrepo):
            what = f"it has no {assembly}; it has {', '.join(sorted(record.references)) or 'none'}"
            remedy = f"Start it with --reference {assembly}=FASTA, or ANYVAR_STEP_REFERENCE"
            yield failed("reference", ConfigurationError(what, remedy), record.name)


def store(record: WorkerRecord, answer: ProbeAnswer) -> Finding:
    """Whether and where the worker registers alleles."""
    if trouble := answer.store_trouble:
        return failed("store", _failure(trouble), record.name)
    if record.store:
        return Finding("store", "ok", f"it registers alleles in {record.store}", worker=record.name)
    what = "it registers alleles nowhere: it has no store"
    return Finding("store", "note", what, "Set ANYVAR_STORAGE_URI for the worker", worker=record.name)


def clock(record: WorkerRecord, answer: ProbeAnswer) -> Iterator[Finding]:
    """Leases are timed by Redis's clock, folders and the sweep by those of the hosts."""
    if abs(answer.clock) > SKEW:
        what = f"the clock of {record.host} is {answer.clock:+.0f} s from that of Redis"
        yield warning("workers", what, "Synchronize its clock: chrony or ntpd", record.name)


def _failure(trouble: Trouble, before: str = "") -> StepError:
    return from_name(trouble.kind)(f"{before}{trouble.what}", trouble.remedy)


def _check_together(settings: Settings, records: list[WorkerRecord]) -> Iterator[Finding]:
    """What all workers must agree on."""
    ours = settings.limits()
    for record in records:
        other = [f"{name}={value}" for name, value in record.limits.items() if ours.get(name) != value]
        if other:
            what = f"it has {', '.join(other)}, which is not what we have"
            remedy = "Give steps and workers the same values: the shortest visibility timeout counts for all"
            yield warning("settings", what, remedy, record.name)
    for assembly in sorted({name for record in records for name in record.references}):
        digests = {record.references[assembly].digest for record in records if assembly in record.references}
        if len(digests) > 1:
            what = f"the workers have different sequences as {assembly}"
            yield failed("reference", ConfigurationError(what, "Name the same FASTA on all of them"))
    if len({record.store for record in records}) > 1:
        what = "some workers register alleles elsewhere, or nowhere"
        yield warning("store", what, "Give all workers the same ANYVAR_STORAGE_URI")
    if len({record.engine for record in records}) > 1:
        what = "the workers have different engines: some are slower, all give the same identifiers"
        remedy = "Install the compiled engine on all hosts"
        yield Finding("workers", "note", what, remedy)


# -- the web API ------------------------------------------------------------------------------------------


def check_web_api(url: str, token: str | None) -> Iterator[Finding]:
    """The web API at ``url`` and the token that is shown to it."""
    with contextlib.closing(ApiClient(url, token, "", 0.0)) as client:
        try:
            begin = time.perf_counter()
            response, info = client.request("GET", "service-info")
            seconds = time.perf_counter() - begin
            if response.status_code != 200:
                raise client.error_from(response, info)
            name, version = info.get("name", "a web API"), info.get("version", "")
            what = f"{name} {version} at {client.url} answers in {seconds * 1000:.0f} ms"
            yield Finding("web API", "ok", what)
            yield from _check_health(client)
        except StepError as error:
            yield failed("web API", error)
            return
        if token and response.url.scheme == "http" and not is_local(response.url.host):
            what = "the token goes through the network in plain text"
            yield warning("web API", what, "Use https:// in ANYVAR_STEP_URL")


def _check_health(client: ApiClient) -> Iterator[Finding]:
    """What our web API says of broker, backend, work dir and workers."""
    response, health = client.request("GET", "healthz")
    if response.status_code == 404:
        what = "it is not ours, and does not tell whether broker, work dir and workers are there"
        yield Finding("web API", "note", what)
        return
    for part in ("broker", "backend", "work_dir"):
        if health.get(part) != "ok":
            trouble = Unavailable(f"its {part} is {health.get(part)}", "Run anyvar-step check on its host")
            yield failed("web API", trouble)
    if health.get("workers") == "ok":
        yield Finding("workers", "ok", f"{health.get('processes')} processes serve the queue")
    else:
        yield failed("workers", Unavailable("no worker serves the queue", "Start one: anyvar-step worker"))
