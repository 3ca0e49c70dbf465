"""The workers: who serves the queue, and whether they see our work dir, the references and the store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from anyvar_step import __version__, errors
from anyvar_step.broker.looks import Known, Look, Server, Trouble, ask, gather, servers
from anyvar_step.check.findings import Finding, failed
from anyvar_step.errors import AccessRefused, ConfigurationError, FileTrouble, StepError, Unavailable
from anyvar_step.settings import Settings
from anyvar_step.workdir import WorkDir
from anyvar_step.workdir.probe import Probe, check_answer, probe

#: Seconds within which the workers must have looked: their store may take ten to be given up.
PATIENCE = 25.0
#: Seconds by which clocks may differ.
SKEW = 30.0


def look(settings: Settings, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Findings about each worker on the queue, and about all of them together."""
    try:
        found = servers(settings)
    except StepError as error:
        yield failed("workers", error)
        return
    serving = [server for server in found if settings.task_default_queue in server.queues]
    if not serving:
        yield _nobody(settings, found)
        return
    for server in serving:
        yield from _who(server)
    ours = [server.name for server in serving if server.version]
    if ours:
        yield from _surroundings(settings, ours, assemblies)


def _nobody(settings: Settings, found: list[Server]) -> Finding:
    queue = settings.task_default_queue
    if not found:
        return failed("workers", Unavailable("no worker answers", "Start one: anyvar-step worker"))
    others = sorted({name for server in found for name in server.queues})
    return failed(
        "workers",
        Unavailable(
            f"{len(found)} workers answer, and none of them serves {queue}: they serve {', '.join(others)}",
            "Give steps and workers the same CELERY_TASK_DEFAULT_QUEUE",
        ),
    )


def _who(server: Server) -> Iterator[Finding]:
    number = f"{server.processes} process{'es' if server.processes > 1 else ''}"
    if server.version is None:
        yield Finding(
            "workers",
            "note",
            f"{number} of another program, such as AnyVar: it cannot be asked what it sees",
            "To have work dir, references and store looked at, start anyvar-step worker in its place",
            worker=server.name,
        )
    elif server.version != __version__:
        yield Finding(
            "workers",
            "warning",
            f"{number} of anyvar-step {server.version}, and this is {__version__}",
            "Install one version on all hosts: VRS ids of different versions may differ",
            worker=server.name,
        )
    else:
        what = f"{number} of anyvar-step {server.version}"
        yield Finding("workers", "ok", what, worker=server.name)


def _surroundings(settings: Settings, ours: list[str], assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """What our workers see, one by one and compared."""
    workdir = WorkDir(
        settings.required_work_dir(),
        worker_root=settings.worker_work_dir,
        mode=settings.work_dir_mode,
        latency_wait=min(settings.latency_wait, PATIENCE),
    )
    token = secrets.token_hex(8)
    try:
        with probe(workdir, token) as laid:
            refused = ask(settings, ours, token)
            asked = [name for name in ours if name not in refused]
            looks = gather(settings, token, len(asked), PATIENCE)
            for each in looks:
                yield from _work_dir(settings, workdir, laid, each)
    except StepError as error:
        yield failed("workers", error)
        return
    silent = dict.fromkeys(set(asked) - {each.worker for each in looks}, "it has not looked in time")
    for name, why in sorted({**refused, **silent}.items()):
        trouble = Unavailable(f"it did not say what it sees: {why}", "See its log; is a filesystem hanging?")
        yield failed("workers", trouble, name)
    if laid.folder.exists():
        left = AccessRefused(
            f"what the workers wrote in {laid.folder} cannot be removed from here",
            "Give step and workers a common group: chmod 2770 on the work dir",
        )
        yield failed("work dir", left)
    for each in looks:
        yield from references(each, assemblies)
        yield from store(each)
        yield from clock(each)
    yield from _together(settings, looks)


def _work_dir(settings: Settings, workdir: WorkDir, laid: Probe, seen: Look) -> Iterator[Finding]:
    expected = str(settings.worker_work_dir or settings.required_work_dir())
    remedy = "Step, web API and workers must share ANYVAR_VCF_ASYNC_WORK_DIR"
    if seen.work_dir_trouble:
        what = f"as {seen.user} on {seen.host} it does not see our probe in {seen.work_dir}: "
        kind = errors.named(seen.work_dir_trouble.kind)
        # A file that never shows is another directory, most likely; what is refused or full says so.
        kind = ConfigurationError if kind is FileTrouble else kind
        trouble = kind(what + seen.work_dir_trouble.what, seen.work_dir_trouble.remedy or remedy)
        yield failed("work dir", trouble, seen.worker)
        return
    try:
        check_answer(workdir, laid, seen.answer)
    except StepError as error:
        yield failed("work dir", error, seen.worker)
        return
    if seen.work_dir != expected:
        trouble = ConfigurationError(
            f"it knows the work dir as {seen.work_dir}, and would refuse our paths below {expected}",
            f"Set ANYVAR_STEP_WORKER_WORK_DIR={seen.work_dir} for the steps",
        )
        yield failed("work dir", trouble, seen.worker)
        return
    what = f"{seen.user} on {seen.host} reads what we write, and we what it writes"
    yield Finding("work dir", "ok", what, worker=seen.worker)


def references(seen: Look, assemblies: tuple[str, ...]) -> Iterator[Finding]:
    """Each reference that the worker has, and those that it should have."""
    for assembly, known in sorted(seen.references.items()):
        if isinstance(known, Trouble):
            error = errors.named(known.kind)(f"{assembly}: {known.what}", known.remedy)
            yield failed("reference", error, seen.worker)
        else:
            yield Finding("reference", "ok", f"{assembly}: {known.contigs} contigs", worker=seen.worker)
    if seen.seqrepo_trouble:
        trouble = seen.seqrepo_trouble
        yield failed("reference", errors.named(trouble.kind)(trouble.what, trouble.remedy), seen.worker)
    elif seen.seqrepo:
        yield Finding("reference", "ok", f"other assemblies from {seen.seqrepo}", worker=seen.worker)
    for assembly in assemblies:
        if assembly not in seen.references and not seen.seqrepo:
            yield failed(
                "reference",
                ConfigurationError(
                    f"it has no {assembly}; it has {', '.join(sorted(seen.references)) or 'none'}",
                    f"Start it with --reference {assembly}=FASTA, or ANYVAR_STEP_REFERENCE",
                ),
                seen.worker,
            )


def store(seen: Look) -> Iterator[Finding]:
    """Whether the worker can register alleles."""
    if seen.store_trouble:
        trouble = seen.store_trouble
        yield failed("store", errors.named(trouble.kind)(trouble.what, trouble.remedy), seen.worker)
    else:
        what = f"it registers alleles in {seen.store}" if seen.store else "it registers no alleles"
        yield Finding("store", "ok", what, worker=seen.worker)


def clock(seen: Look) -> Iterator[Finding]:
    """Leases go by Redis's clock, folders and the sweep by the hosts'."""
    if abs(seen.clock) > SKEW:
        what = f"the clock of {seen.host} is {seen.clock:+.0f} s from that of Redis"
        yield Finding(
            "workers", "warning", what, "Let its host keep time: chrony or ntpd", worker=seen.worker
        )


def _together(settings: Settings, looks: list[Look]) -> Iterator[Finding]:
    """What all must agree on."""
    ours = settings.limits()
    for seen in looks:
        other = [f"{name}={value}" for name, value in seen.limits.items() if ours.get(name) != value]
        if other:
            what = f"it has {', '.join(other)}, which is not what we have"
            remedy = "Give steps and workers the same values: the shortest visibility timeout counts for all"
            yield Finding("settings", "warning", what, remedy, worker=seen.worker)
    for assembly in sorted({name for seen in looks for name in seen.references}):
        known = [seen.references.get(assembly) for seen in looks]
        if len({each.digest for each in known if isinstance(each, Known)}) > 1:
            what = f"the workers have different sequences as {assembly}"
            yield failed("reference", ConfigurationError(what, "Name the same FASTA on all of them"))
    if len({seen.store for seen in looks}) > 1:
        what = "some workers register alleles elsewhere, or nowhere"
        yield Finding("store", "warning", what, "Give all workers the same ANYVAR_STORAGE_URI")
