"""The registry of workers: what each one is, under a key that it renews and that expires without it.

Steps, ``check``, web API and metrics ask the registry who serves a queue: one command, no broadcast. Workers
of AnyVar, and ours before this version, register nothing: Celery's ``inspect`` finds them, only where
kombu's bindings name a worker that never registered (docs/contract.md#redis-keys).

``check`` asks a worker to answer a probe in the work dir by a list on which the worker's heartbeat waits.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, ValidationError

from anyvar_step.errors import AccessRefused, StepError
from anyvar_step.runs.connection import backend, broker
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.queue import ANSWER_SECONDS, Queue
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Seconds between two renewals of a worker's record, and for which it stands without one.
HEARTBEAT_SECONDS, EXPIRES_SECONDS = 5, 15
#: Seconds for which the answers to Celery's ``inspect`` are used again.
INSPECT_CACHED = 5.0
#: Seconds for which the names of workers are kept, and an answer or a request that is not fetched.
_NAMES_KEPT, _ANSWER_KEPT = 14 * 86_400, 120
#: kombu's set of bindings for remote control; each member ends with ``<worker name>.celery.pidbox``.
_PIDBOX = "_kombu.binding.celery.pidbox"
#: The attribute of our workers' tasks that holds their version, also before the registry (1.1.0).
_VERSION_MARK = "anyvar_step"
_TOKEN = re.compile(r"[0-9a-f]{16}")

#: KEYS: record, queues, names, one set for each queue. ARGV: record, seconds, id, name, seconds, each queue.
_REGISTER = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[3], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
for i = 4, #KEYS do
  redis.call('SADD', KEYS[2], ARGV[i + 2])
  redis.call('SADD', KEYS[i], ARGV[3])
  redis.call('EXPIRE', KEYS[i], ARGV[5])
end
redis.call('EXPIRE', KEYS[2], ARGV[5])
"""
#: KEYS: the queue's set, queues. ARGV: the name of a record without its id, the queue. Returns the records.
_WORKERS = """
local records = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local record = redis.call('GET', ARGV[1] .. id)
  if record then records[#records + 1] = record else redis.call('SREM', KEYS[1], id) end
end
if #records == 0 then redis.call('SREM', KEYS[2], ARGV[2]) end
return records
"""


class ReferenceRecord(BaseModel):
    """A reference of a worker: the number of contigs, and a digest over their names and accessions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    contigs: int
    digest: str


class WorkerRecord(BaseModel):
    """What one worker is. A newer worker may say more; that is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str  # of this process: a restarted worker has another
    name: str  # in Celery
    host: str
    user: str
    pid: int
    processes: int
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    version: str
    engine: str = ""
    celery: str
    work_dir: str
    references: dict[str, ReferenceRecord]
    seqrepo: str = ""  # the source of other assemblies
    store: str = ""  # the URI without its password
    limits: dict[str, int]  # by variable
    runs: tuple[str, ...] = ()  # run ids that it has received and not finished


class Trouble(BaseModel):
    """A StepError in an answer: the name of its class, and its message."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    what: str
    remedy: str = ""


class ProbeAnswer(BaseModel):
    """A worker's answer to ``check``: whether it sees the probe and can use its references and store."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str  # of the worker
    answer: str = ""  # the file that it wrote beside the probe
    work_dir_trouble: Trouble | None = None
    reference_troubles: dict[str, Trouble] = {}
    seqrepo_trouble: Trouble | None = None
    store_trouble: Trouble | None = None
    clock: float = 0.0  # of its host, minus Redis's; seconds


class OtherWorker(BaseModel):
    """A worker without a record, as Celery's ``inspect`` shows it."""

    model_config = ConfigDict(frozen=True)

    name: str
    queues: tuple[str, ...]
    processes: int
    tasks: tuple[str, ...] = ()
    version: str = ""  # of ours before the registry; AnyVar's have none


def _version_in(tasks: Iterable[object]) -> str:
    """The version that a worker of ours states with its tasks; "" for AnyVar's."""
    found = re.search(rf"\[{_VERSION_MARK}=(\S+)\]", " ".join(map(str, tasks)))
    return found[1] if found else ""


def is_token(text: object) -> bool:
    """Whether the text can name a probe: it becomes a part of a path and of a Redis key."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class WorkerRegistry:
    """The registry in one result backend. Each question opens a connection and closes it.

    All methods raise Unavailable or AccessRefused where Redis does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue = Queue(settings)
        self._inspected: tuple[float, list[OtherWorker]] | None = None

    # -- the worker's side -------------------------------------------------------------------------------

    def register(self, record: WorkerRecord, client: redis.Redis | None = None) -> None:
        """Write or renew the record, for EXPIRES_SECONDS."""
        keys = [step_key("worker", record.id), step_key("queues", ""), step_key("worker-names", "")]
        keys += [step_key("workers", queue) for queue in record.queues]
        values: list[str | int] = [
            record.model_dump_json(),
            EXPIRES_SECONDS,
            record.id,
            record.name,
            _NAMES_KEPT,
        ]
        with nullcontext(client) if client else backend(self._settings) as connected:
            connected.register_script(_REGISTER)(keys, [*values, *record.queues])

    def unregister(self, record: WorkerRecord) -> None:
        """Delete the record and the name, which a worker of AnyVar may have next.

        Readers remove its id from the sets of ids.
        """
        with backend(self._settings) as client:
            pipe = client.pipeline()
            pipe.delete(step_key("worker", record.id))
            pipe.srem(step_key("worker-names", ""), record.name)
            pipe.execute()

    # -- who is there ------------------------------------------------------------------------------------

    def workers_of(self, queue: str) -> list[WorkerRecord]:
        """The records of the live workers that serve the queue."""
        keys = [step_key("workers", queue), step_key("queues", "")]
        with backend(self._settings) as client:
            found = client.register_script(_WORKERS)(keys, [step_key("worker", ""), queue])
        records = []
        for raw in found:
            try:
                records.append(WorkerRecord.model_validate_json(raw))
            except ValidationError as error:
                _logger.debug("a worker's record cannot be read: %s", error)
        return sorted(records, key=lambda record: (record.host, record.name, record.id))

    def queues(self) -> list[str]:
        """The queues that registered workers serve, or served lately."""
        with backend(self._settings) as client:
            return sorted(str(queue) for queue in client.smembers(step_key("queues", "")))

    def others(self) -> list[OtherWorker]:
        """Workers that never registered, of all queues, by Celery's ``inspect``: a second, cached for a few.

        Costs one command where kombu's bindings name none. Raises AccessRefused where this user may not
        broadcast.
        """
        if not self._unregistered_names():
            return []
        if self._inspected is None or time.monotonic() - self._inspected[0] > INSPECT_CACHED:
            self._inspected = (time.monotonic(), self._inspect())
        return self._inspected[1]

    def served(self) -> bool:
        """Whether a worker serves the queue; True also where only a broadcast could tell, and is denied."""
        return self._serving() != []

    def capacity(self) -> int:
        """The number of worker processes that serve the queue; 0 without a worker."""
        serving = self._serving()
        return 1 if serving is None else sum(worker.processes for worker in serving)

    def only_anyvars(self) -> bool:
        """Whether workers serve the queue and all of them are AnyVar's own; False where that is not known."""
        serving = self._serving() or ()
        return bool(serving) and not any(worker.version for worker in serving)

    def _serving(self) -> Sequence[WorkerRecord | OtherWorker] | None:
        """The workers of the queue, others only where none is registered; None where they are not known."""
        if records := self.workers_of(self._queue.name):
            return records
        try:
            return [worker for worker in self.others() if self._queue.name in worker.queues]
        except AccessRefused:
            return None

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that no worker has received, once the queue is empty.

        None while runs are queued, which may be they, and none where workers cannot be asked.
        """
        if self._queue.length():
            return set()
        received = {run for record in self.workers_of(self._queue.name) for run in record.runs}
        missing = {*run_ids} - received
        if not (missing and self._unregistered_names()):
            return missing
        try:
            with self._queue.celery() as app:
                answers = app.control.inspect(timeout=ANSWER_SECONDS).query_task(*missing) or {}
        except AccessRefused:
            return set()
        return missing.difference(*answers.values())

    def _unregistered_names(self) -> set[str]:
        """The names in kombu's bindings, of live or dead workers, that never registered here."""
        with broker(self._settings) as client:
            bound = {str(member) for member in client.smembers(_PIDBOX)}
        names = {member.rpartition("\x16")[2].removesuffix(".celery.pidbox") for member in bound}
        return names - self._registered_names()

    def _registered_names(self) -> set[str]:
        with backend(self._settings) as client:
            return {str(name) for name in client.smembers(step_key("worker-names", ""))}

    def _inspect(self) -> list[OtherWorker]:
        with self._queue.celery() as app:
            queues: dict[str, Any] = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
            names = sorted(set(queues) - self._registered_names())
            inspect = app.control.inspect(names, timeout=ANSWER_SECONDS)
            stats = inspect.stats() or {} if names else {}
            tasks = inspect.registered(_VERSION_MARK) or {} if names else {}
        return [
            OtherWorker(
                name=name,
                queues=tuple(str(queue["name"]) for queue in queues[name]),
                processes=int((stats.get(name) or {}).get("pool", {}).get("max-concurrency", 1)),
                tasks=tuple(str(task).partition(" ")[0] for task in tasks.get(name) or ()),
                version=_version_in(tasks.get(name) or ()),
            )
            for name in names
        ]

    # -- probes ------------------------------------------------------------------------------------------

    def request_answer(self, record: WorkerRecord, token: str) -> None:
        """Ask the worker to answer the probe of that token; it does so at once."""
        self._post(step_key("probe", record.id), token)

    def post_answer(self, token: str, answer: ProbeAnswer) -> None:
        """Store a worker's answer for the ``check`` that sent the probe."""
        self._post(step_key("answers", token), answer.model_dump_json())

    def gather_answers(self, token: str, number: int, seconds: float) -> list[ProbeAnswer]:
        """The answers, once there are so many or the seconds have passed."""
        key, deadline = step_key("answers", token), time.monotonic() + seconds
        answers: list[ProbeAnswer] = []
        with backend(self._settings) as client:
            while len(answers) < number and time.monotonic() < deadline:
                raw = client.lpop(key)
                if raw is None:
                    time.sleep(0.05)
                    continue
                try:
                    answers.append(ProbeAnswer.model_validate_json(str(raw)))
                except ValidationError:
                    number -= 1  # from another program
            client.delete(key)
        return answers

    def _post(self, key: str, value: str) -> None:
        """Append the value to a list that another process reads soon."""
        with backend(self._settings) as client:
            pipe = client.pipeline()
            pipe.rpush(key, value)
            pipe.expire(key, _ANSWER_KEPT)
            pipe.execute()


class RegistryHeartbeat:
    """Keeps a worker's record alive from a thread, and hands the tokens of probes to ``answer``.

    ``runs`` gives the ids that the worker has received and not finished. ``answer`` must return at once: a
    file system that hangs must not make the worker look dead.
    """

    def __init__(
        self,
        settings: Settings,
        record: WorkerRecord,
        runs: Callable[[], Sequence[str]],
        answer: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._record = record
        self._runs = runs
        self._answer = answer
        self._registry = WorkerRegistry(settings)
        self._stopped = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)

    def start(self, name: str) -> None:
        """Register now under that name in Celery, and stay registered until ``stop``."""
        self._record = self._record.model_copy(update={"name": name})
        try:
            self._registry.register(self._record)
        except StepError as trouble:
            _logger.warning("the worker is not registered yet: %s", trouble)
        self._thread.start()

    def stop(self) -> None:
        """Unregister. A Redis that does not answer is no failure: the record expires."""
        with self._turn:
            self._stopped.set()
        try:
            self._registry.unregister(self._record)
        except StepError as trouble:
            _logger.debug("not unregistered: %s", trouble)

    def _run(self) -> None:
        with backend(self._settings) as client:
            while not self._stopped.is_set():
                try:
                    self._beat(client)
                except StepError as trouble:
                    _logger.warning("the worker's record was not renewed: %s", trouble)
                    self._stopped.wait(HEARTBEAT_SECONDS / 5)

    def _beat(self, client: redis.Redis) -> None:
        """Renew the record, then wait for a probe until the next renewal."""
        with self._turn:
            if self._stopped.is_set():
                return
            record = self._record.model_copy(update={"runs": tuple(self._runs())})
            self._registry.register(record, client)
        found: Any = client.blpop([step_key("probe", self._record.id)], timeout=HEARTBEAT_SECONDS)
        if found and is_token(found[1]):
            self._answer(found[1])
