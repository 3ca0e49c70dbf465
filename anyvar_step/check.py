"""Looking at a deployment before the first run: each part of it as findings, each with its remedy."""

from __future__ import annotations

import ipaddress
import os
import secrets
import stat
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import redis

from anyvar_step import __version__, errors
from anyvar_step.client.http import Client
from anyvar_step.errors import AccessRefused, ConfigurationError, FileTrouble, StepError, Unavailable
from anyvar_step.runs.connection import connect, translated
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.liveness import UNACKED
from anyvar_step.runs.registry import ProbeAnswer, WorkerRecord, WorkerRegistry
from anyvar_step.runs.work_dir import Probe, WorkDir, check_answer, probe
from anyvar_step.settings import Settings, masked

Level = Literal["ok", "note", "warning", "error"]

#: Of several errors the first in this order decides: what no retry mends comes before what may pass.
ORDER = (78, 77, 66, 65, 70, 74, 75, 69, 124)


@dataclass(frozen=True)
class Finding:
    """One finding; ``exit_code`` is 0 but for errors, ``worker`` names the worker that it is about."""

    about: str
    level: Level
    what: str
    remedy: str = ""
    exit_code: int = 0
    worker: str = ""


def failed(about: str, error: StepError, worker: str = "") -> Finding:
    """The error as a finding."""
    return Finding(about, "error", error.what, error.remedy, error.exit_code, worker)


def exit_code(findings: Iterable[Finding]) -> int:
    """The code of the worst error, 0 without errors."""
    codes = {finding.exit_code for finding in findings} - {0}
    return next((code for code in ORDER if code in codes), max(codes, default=0))


def names(settings: Settings) -> Iterator[Finding]:
    """Variables that nobody reads."""
    for name, remedy in settings.mistyped.items():
        yield Finding("settings", "warning", f"{name} is no setting, and does nothing", remedy)


def look_at_limits(settings: Settings) -> Iterator[Finding]:
    """Limits, deliveries, and secrets on the way."""
    soft, hard, kept = settings.soft_time_limit, settings.task_time_limit, settings.result_expires
    yield Finding("settings", "ok", f"a run may last {soft} s, and its result waits {kept} s to be fetched")
    if kept < hard:
        yield Finding(
            "settings",
            "warning",
            f"CELERY_RESULT_EXPIRES ({kept} s) is below CELERY_TASK_TIME_LIMIT ({hard} s): a run that was "
            "submitted without waiting may be forgotten before it ends",
            "Raise them together: anyvar-step config --for 8h prints a set that fits",
        )
    if settings.task_reject_on_worker_lost:
        yield Finding(
            "settings",
            "warning",
            "CELERY_TASK_REJECT_ON_WORKER_LOST queues a run again whenever its process is killed: one that "
            "needs more memory than there is comes back for ever",
            "Set it to false: a step attempts a lost run again by itself, --resubmit times",
        )
    if settings.worker_prefetch_multiplier == 0:
        yield Finding(
            "settings",
            "warning",
            "CELERY_WORKER_PREFETCH_MULTIPLIER=0 lets the first worker reserve all runs of the queue",
            "Set it to 1",
        )
    if settings.work_dir_mode is not None and settings.work_dir_mode & 0o007:
        yield Finding(
            "settings",
            "warning",
            f"ANYVAR_STEP_WORK_DIR_MODE={settings.work_dir_mode:04o} lets every user of every host read what "
            "is being annotated",
            "Set it to 0660, and give step and workers a common group",
        )
    for variable, url in _urls(settings).items():
        yield from _on_the_way(variable, url)


def _urls(settings: Settings) -> dict[str, str]:
    """By variable; one where both are the same."""
    urls = {"CELERY_BROKER_URL": settings.broker_url}
    if settings.backend_url != settings.broker_url:
        urls["CELERY_BACKEND_URL"] = settings.backend_url
    return urls


def _on_the_way(variable: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme != "redis" or is_local(parts.hostname or "localhost"):
        return
    if parts.password is None:
        yield Finding(
            "settings",
            "warning",
            f"{masked(url)} asks for no password: whoever reaches it may queue, read and cancel runs",
            "Give Redis a password (requirepass); see docs/security.md",
        )
    else:
        yield Finding(
            "settings",
            "warning",
            f"{masked(url)} carries the password in plain text through the network",
            f"Use rediss:// in {variable}; see docs/security.md",
        )


def is_local(host: str) -> bool:
    """Whether the host is this one, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


#: Round trips of which the median is told, and the one from which on it is slow, seconds.
PINGS, SLOW = 9, 0.1
#: The share of memory or connections from which on there is little left.
NEARLY = 0.8


def look_at_servers(settings: Settings) -> Iterator[Finding]:
    """The broker's Redis, its queue, and the backend's Redis, which may be the same."""
    yield from _look("broker", settings.broker_url, "CELERY_BROKER_URL", settings)
    if settings.backend_url != settings.broker_url:
        yield from _look("backend", settings.backend_url, "CELERY_BACKEND_URL", settings)


def _look(about: str, url: str, variable: str, settings: Settings) -> Iterator[Finding]:
    with connect(url) as client:
        try:
            with translated(url, variable):
                seconds = _round_trip(client)
                _try_rights(client)
        except StepError as error:
            yield failed(about, error)
            return
        try:
            info: dict[str, Any] = client.info()
        except redis.RedisError as error:
            info = {}
            yield Finding(
                about,
                "warning",
                f"Redis does not say how it is set ({error}): neither eviction nor persistence could be seen",
                "Let this user call INFO: ACL SETUSER … +info",
            )
        yield _speed(about, url, seconds, info)
        if info:
            yield from kind(about, url, info)
            yield from eviction(about, info)
            yield from persistence(about, info, _saves(client))
            yield from room(about, info)
        if about == "broker":
            yield from _queue(client, settings)


def _round_trip(client: redis.Redis) -> float:
    """The median round trip, seconds."""
    client.ping()
    times = []
    for _ in range(PINGS):
        begin = time.perf_counter()
        client.ping()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _try_rights(client: redis.Redis) -> None:
    """Write, read and delete a key of ours."""
    key = step_key("check", secrets.token_hex(8))
    client.set(key, "1", ex=10)
    client.get(key)
    client.delete(key)


def _speed(about: str, url: str, seconds: float, info: dict[str, Any]) -> Finding:
    version = f", Redis {info['redis_version']}" if "redis_version" in info else ""
    what = f"{masked(url)} answers in {seconds * 1000:.1f} ms{version}"
    if seconds < SLOW:
        return Finding(about, "ok", what)
    return Finding(about, "warning", what, "Put Redis nearer to the workers; each run asks it some 100 times")


def kind(about: str, url: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Celery needs one server that may be written to."""
    if info.get("cluster_enabled"):
        error = ConfigurationError(f"{masked(url)} is a Redis Cluster, which Celery cannot use as a broker")
        yield failed(about, error)
    if info.get("role") in ("slave", "replica"):
        error = ConfigurationError(f"{masked(url)} is a read-only replica", "Name the primary server")
        yield failed(about, error)


def eviction(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Any policy but noeviction drops queues, bindings or states when memory runs out."""
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield Finding(about, "ok", "nothing is evicted (maxmemory-policy noeviction)")
        return
    what = f"maxmemory-policy is {policy}, which drops queued runs or their states when memory is short"
    remedy = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if most:
        yield failed(about, ConfigurationError(what, remedy))
    else:
        yield Finding(about, "warning", f"{what}; no limit (maxmemory) is set yet", remedy)


def persistence(about: str, info: dict[str, Any], saves: str | None) -> Iterator[Finding]:
    """Whether runs outlive a restart. ``saves`` are the snapshots' times, None where that is not told."""
    remedy = "redis-cli CONFIG SET appendonly yes, and the same in redis.conf"
    if info.get("aof_last_write_status", "ok") != "ok" or (
        saves != "" and info.get("rdb_last_bgsave_status", "ok") != "ok"
    ):
        trouble = "Redis cannot write to its disk, and may refuse what steps and workers write"
        yield failed(about, FileTrouble(trouble, "Make room in its dir, and see its log"))
    if info.get("aof_enabled"):
        yield Finding(about, "ok", "runs outlive a restart of Redis (appendonly yes)")
    elif saves == "":
        yield Finding(about, "warning", "a restart of Redis loses all queued and running runs", remedy)
    else:
        kept = "what came after its last snapshot" if saves else "runs, unless it takes snapshots"
        yield Finding(about, "warning", f"a crash of Redis loses {kept}: appendonly is off", remedy)


def room(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Memory and connections."""
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used >= most:
        error = Unavailable(f"Redis is full: {used} of {most} bytes", "Raise maxmemory")
        yield failed(about, error)
    elif most and used > NEARLY * most:
        yield Finding(about, "warning", f"{used} of {most} bytes of memory are in use", "Raise maxmemory")
    clients, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if limit and clients > NEARLY * limit:
        what = f"{clients} of {limit} connections are in use"
        yield Finding(about, "warning", what, "Raise maxclients: a waiting step takes one, a worker some ten")


def _saves(client: redis.Redis) -> str | None:
    """The ``save`` setting; None where CONFIG is not allowed, as with rented servers."""
    try:
        return str(client.config_get("save").get("save", ""))
    except redis.RedisError:
        return None


def _queue(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    name = settings.task_default_queue
    try:
        with translated(settings.broker_url, "CELERY_BROKER_URL"):
            waiting, taken = client.llen(name), client.hlen(UNACKED)
    except AccessRefused as error:
        yield failed("queue", error)
        return
    yield Finding("queue", "ok", f"{waiting} runs wait in {name}; workers of this Redis hold {taken}")


#: Bytes and share of a filesystem below which there is little room, and the share of its inodes.
LITTLE, LITTLE_SHARE, FEW_INODES = 10 << 30, 0.02, 0.01
#: Filesystems in the memory of one host.
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def look_at_storage(settings: Settings) -> Iterator[Finding]:
    """The work dir, without the workers: ``workers.look`` asks whether they see the same one."""
    try:
        root = settings.required_work_dir()
        workdir = WorkDir(root, mode=settings.work_dir_mode, latency_wait=settings.latency_wait)
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
        yield Finding("work dir", "warning", what, "Use a directory of the shared filesystem")
    yield from _room(root)
    yield from _openness(root)


def _room(root: Path) -> Iterator[Finding]:
    space = os.statvfs(root)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    what = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free"
    remedy = "Make room: a VCF is there twice for a while; anyvar-step sweep removes what dead runs left"
    if free == 0:
        yield failed("work dir", FileTrouble(f"{root} is full", remedy))
    elif free < min(LITTLE, LITTLE_SHARE * total):
        yield Finding("work dir", "warning", what, remedy)
    else:
        yield Finding("work dir", "ok", what)
    if space.f_files and space.f_favail < FEW_INODES * space.f_files:
        what = f"{space.f_favail} of {space.f_files} files are left that may be made"
        yield Finding("work dir", "warning", what, "Remove small files: a run needs some five for a while")


def _openness(root: Path) -> Iterator[Finding]:
    """Inputs are genomes: nobody but step and workers should reach them."""
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o002 and not mode & stat.S_ISVTX:
        what = f"every user may rename and remove what is in {root} (mode {mode:04o})"
        yield Finding("work dir", "warning", what, f"chmod 2770 {root}, with a group for step and workers")
    elif mode & 0o005:
        what = f"every user may look into {root} (mode {mode:04o}); files in it are closed to them"
        yield Finding("work dir", "note", what, f"chmod 2770 {root}, with a group for step and workers")


def filesystem(path: Path) -> str:
    """The kind of filesystem that the path is on, as Linux names it; ``unknown`` elsewhere."""
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


def look_at_web_api(url: str, token: str | None) -> Iterator[Finding]:
    """Findings about the web API at ``url`` and the token shown to it."""
    with Client(url, token, "", 0.0) as client:
        try:
            begin = time.perf_counter()
            response, info = client.ask("GET", "service-info")
            seconds = time.perf_counter() - begin
            if response.status_code != 200:
                raise client.trouble(response, info)
            name, version = info.get("name", "a web API"), info.get("version", "")
            what = f"{name} {version} at {client.url} answers in {seconds * 1000:.0f} ms"
            yield Finding("web API", "ok", what)
            yield from _health(client)
        except StepError as error:
            yield failed("web API", error)
            return
        if token and response.url.scheme == "http" and not is_local(response.url.host):
            what = "the token goes through the network in plain text"
            yield Finding("web API", "warning", what, "Use https:// in ANYVAR_STEP_URL")


def _health(client: Client) -> Iterator[Finding]:
    """What our web API says of the parts behind it."""
    response, health = client.ask("GET", "healthz")
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


#: Seconds within which the workers must have looked: their store may take ten to be given up.
PATIENCE = 25.0
#: Seconds by which clocks may differ.
SKEW = 30.0


def look_at_workers(settings: Settings, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Findings about each worker on the queue, and about all of them together."""
    registry, queue = WorkerRegistry(settings), settings.task_default_queue
    try:
        ours = registry.workers_of(queue)
        others = [] if ours else registry.others()
        served = sorted(
            {name for worker in others for name in worker.queues}
            | {name for name in registry.queues() if not ours and registry.workers_of(name)}
        )
    except StepError as error:
        yield failed("workers", error)
        return
    others = [worker for worker in others if queue in worker.queues]
    if not (ours or others):
        yield _unserved(queue, served)
        return
    for record in ours:
        yield _version(record)
    for worker in others:
        yield Finding(
            "workers",
            "note",
            f"{_processes(worker.processes)} of another program, such as AnyVar: it registers nothing",
            "To have work dir, references and store checked, start anyvar-step worker in its place",
            worker=worker.name,
        )
    if ours:
        yield from _surroundings(settings, registry, ours, assemblies)


def _unserved(queue: str, served: list[str]) -> Finding:
    if not served:
        return failed("workers", Unavailable("no worker answers", "Start one: anyvar-step worker"))
    return failed(
        "workers",
        Unavailable(
            f"no worker serves {queue}: those here serve {', '.join(served)}",
            "Give steps and workers the same CELERY_TASK_DEFAULT_QUEUE",
        ),
    )


def _processes(number: int) -> str:
    return f"{number} process{'es' if number > 1 else ''}"


def _version(record: WorkerRecord) -> Finding:
    what = f"{_processes(record.processes)} of anyvar-step {record.version}"
    if record.version == __version__:
        engine = f", {record.engine} engine" if record.engine else ""
        return Finding("workers", "ok", f"{what}{engine}", worker=record.name)
    return Finding(
        "workers",
        "warning",
        f"{what}, and this is {__version__}",
        "Install one version on all hosts: VRS ids of different versions may differ",
        worker=record.name,
    )


def _surroundings(
    settings: Settings, registry: WorkerRegistry, ours: list[WorkerRecord], assemblies: tuple[str, ...]
) -> Iterator[Finding]:
    """What our workers are and can use, one by one and compared."""
    workdir = WorkDir(
        settings.required_work_dir(),
        worker_root=settings.worker_work_dir,
        mode=settings.work_dir_mode,
        latency_wait=min(settings.latency_wait, PATIENCE),
    )
    token, records = secrets.token_hex(8), {record.id: record for record in ours}
    try:
        with probe(workdir, token) as laid:
            for record in ours:
                registry.request_answer(record, token)
            answers = {
                answer.id: answer
                for answer in registry.gather_answers(token, len(ours), PATIENCE)
                if answer.id in records
            }
            for worker_id, answer in answers.items():
                yield from _work_dir(settings, workdir, laid, records[worker_id], answer)
    except StepError as error:
        yield failed("workers", error)
        return
    for record in ours:
        if record.id not in answers:
            trouble = Unavailable("it did not answer in time", "See its log; is a file system hanging?")
            yield failed("workers", trouble, record.name)
    if laid.folder.exists():
        left = AccessRefused(
            f"what the workers wrote in {laid.folder} cannot be removed from here",
            "Give step and workers a common group: chmod 2770 on the work dir",
        )
        yield failed("work dir", left)
    for record in ours:
        answer = answers.get(record.id, ProbeAnswer(id=record.id))
        yield from references(record, answer, assemblies)
        yield from store(record, answer)
        yield from clock(record, answer)
    yield from _together(settings, ours)


def _work_dir(
    settings: Settings, workdir: WorkDir, laid: Probe, record: WorkerRecord, answer: ProbeAnswer
) -> Iterator[Finding]:
    expected = str(settings.worker_work_dir or settings.required_work_dir())
    remedy = "Step, web API and workers must share ANYVAR_VCF_ASYNC_WORK_DIR"
    if answer.work_dir_trouble:
        what = f"as {record.user} on {record.host} it does not see our probe in {record.work_dir}: "
        kind = errors.from_name(answer.work_dir_trouble.kind)
        # A file that never shows is another directory, most likely; what is refused or full says so.
        kind = ConfigurationError if kind is FileTrouble else kind
        trouble = kind(what + answer.work_dir_trouble.what, answer.work_dir_trouble.remedy or remedy)
        yield failed("work dir", trouble, record.name)
        return
    try:
        check_answer(workdir, laid, answer.answer)
    except StepError as error:
        yield failed("work dir", error, record.name)
        return
    if record.work_dir != expected:
        trouble = ConfigurationError(
            f"it knows the work dir as {record.work_dir}, and would refuse our paths below {expected}",
            f"Set ANYVAR_STEP_WORKER_WORK_DIR={record.work_dir} for the steps",
        )
        yield failed("work dir", trouble, record.name)
        return
    what = f"{record.user} on {record.host} reads what we write, and we what it writes"
    yield Finding("work dir", "ok", what, worker=record.name)


def references(record: WorkerRecord, answer: ProbeAnswer, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Each reference that the worker has, and those that it should have."""
    for assembly, found in sorted(record.references.items()):
        if wrong := answer.reference_troubles.get(assembly):
            error = errors.from_name(wrong.kind)(f"{assembly}: {wrong.what}", wrong.remedy)
            yield failed("reference", error, record.name)
        else:
            yield Finding("reference", "ok", f"{assembly}: {found.contigs} contigs", worker=record.name)
    if trouble := answer.seqrepo_trouble:
        yield failed("reference", errors.from_name(trouble.kind)(trouble.what, trouble.remedy), record.name)
    elif record.seqrepo:
        yield Finding("reference", "ok", f"other assemblies from {record.seqrepo}", worker=record.name)
    for assembly in assemblies:
        if assembly not in record.references and not record.seqrepo:
            yield failed(
                "reference",
                ConfigurationError(
                    f"it has no {assembly}; it has {', '.join(sorted(record.references)) or 'none'}",
                    f"Start it with --reference {assembly}=FASTA, or ANYVAR_STEP_REFERENCE",
                ),
                record.name,
            )


def store(record: WorkerRecord, answer: ProbeAnswer) -> Iterator[Finding]:
    """Whether the worker can register alleles."""
    if trouble := answer.store_trouble:
        yield failed("store", errors.from_name(trouble.kind)(trouble.what, trouble.remedy), record.name)
    else:
        what = f"it registers alleles in {record.store}" if record.store else "it registers no alleles"
        yield Finding("store", "ok", what, worker=record.name)


def clock(record: WorkerRecord, answer: ProbeAnswer) -> Iterator[Finding]:
    """Leases go by Redis's clock, folders and the sweep by the hosts'."""
    if abs(answer.clock) > SKEW:
        what = f"the clock of {record.host} is {answer.clock:+.0f} s from that of Redis"
        yield Finding(
            "workers", "warning", what, "Let its host keep time: chrony or ntpd", worker=record.name
        )


def _together(settings: Settings, records: list[WorkerRecord]) -> Iterator[Finding]:
    """What all must agree on."""
    ours = settings.limits()
    for record in records:
        other = [f"{name}={value}" for name, value in record.limits.items() if ours.get(name) != value]
        if other:
            what = f"it has {', '.join(other)}, which is not what we have"
            remedy = "Give steps and workers the same values: the shortest visibility timeout counts for all"
            yield Finding("settings", "warning", what, remedy, worker=record.name)
    for assembly in sorted({name for record in records for name in record.references}):
        digests = {record.references[assembly].digest for record in records if assembly in record.references}
        if len(digests) > 1:
            what = f"the workers have different sequences as {assembly}"
            yield failed("reference", ConfigurationError(what, "Name the same FASTA on all of them"))
    if len({record.store for record in records}) > 1:
        what = "some workers register alleles elsewhere, or nowhere"
        yield Finding("store", "warning", what, "Give all workers the same ANYVAR_STORAGE_URI")


def look(settings: Settings, assemblies: tuple[str, ...] = ()) -> Iterator[Finding]:
    """What is right and what is wrong with settings, Redis, work dir and workers, as seen from this host.

    ``assemblies`` are those that the workers must know. Nothing is raised: what fails is a finding.
    """
    yield from look_at_limits(settings)
    broken = False
    for finding in look_at_servers(settings):
        broken |= finding.exit_code in (69, 77)  # out of reach; what is set wrong keeps nobody from asking
        yield finding
    for finding in look_at_storage(settings):
        broken |= finding.exit_code != 0
        yield finding
    if broken:
        yield Finding("workers", "note", "not asked: first mend what is wrong above")
    else:
        yield from look_at_workers(settings, assemblies)
