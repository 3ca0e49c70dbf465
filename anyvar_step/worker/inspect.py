"""A worker's answer to ``anyvar-step check``: what it sees of work dir, references and store."""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import celery
from celery.worker.control import Panel

from anyvar_step import reference
from anyvar_step.errors import StepError, from_os
from anyvar_step.runs.connection import connect, now, translated
from anyvar_step.runs.keys import LOOK
from anyvar_step.runs.registry import Known, Look, Trouble, is_token, post
from anyvar_step.runs.work_dir import WorkDir, answer
from anyvar_step.settings import Settings, masked
from anyvar_step.worker.job import look_at_store

_logger = logging.getLogger(__name__)

#: Looks at once; one that hangs on a dead filesystem must not be joined by ever more.
MOST = 4

Seen = TypeVar("Seen")


def answer_checks(settings: Settings, workdir: WorkDir) -> None:
    """Make this process's worker answer the remote-control command LOOK.

    The command carries a token and nothing else: which path is looked at is the worker's own affair.
    """
    looker = Looker(settings, workdir)

    @Panel.register(name=LOOK, type="inspect", args=[("token", str)])  # type: ignore[untyped-decorator]
    def look(state: Any, token: str = "", **_: Any) -> dict[str, str]:
        return looker.begin(token, str(state.hostname))


class Looker:
    """Looks in threads of its own: the worker's event loop goes on, whatever the filesystem does."""

    def __init__(self, settings: Settings, workdir: WorkDir) -> None:
        self._settings = settings
        self._workdir = workdir
        self._threads: list[threading.Thread] = []

    def begin(self, token: str, worker: str) -> dict[str, str]:
        """Begin a look; Celery's form of yes or no."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if not is_token(token):
            return {"error": "that is no token"}
        if len(self._threads) >= MOST:
            return {"error": f"{MOST} earlier looks have not ended; is a filesystem hanging?"}
        thread = threading.Thread(target=self._look, args=(token, worker), name="look", daemon=True)
        self._threads.append(thread)
        thread.start()
        return {"ok": "looking"}

    def _look(self, token: str, worker: str) -> None:
        try:
            post(self._settings, token, self._seen(token, worker))
        except StepError as trouble:
            _logger.warning("cannot answer a check: %s", trouble)

    def _seen(self, token: str, worker: str) -> Look:
        settings, root = self._settings, self._workdir.root
        name, trouble = _try(lambda: answer(self._workdir, token))
        usage, _ = _try(lambda: shutil.disk_usage(root))
        _, store_trouble = _try(lambda: look_at_store(settings))
        _, seqrepo_trouble = _try(self._look_at_seqrepo)
        known: dict[str, Known | Trouble] = {}
        for assembly in settings.references:
            found, wrong = _try(lambda: self._known(assembly))  # noqa: B023  # called at once
            known[assembly] = found or wrong or Trouble(kind="StepError", what="nothing was found")
        return Look(
            worker=worker,
            host=socket.gethostname(),
            user=_user(),
            celery=celery.__version__,
            work_dir=str(root),
            answer=name or "",
            work_dir_trouble=trouble,
            free=usage.free if usage else None,
            references=known,
            seqrepo=settings.seqrepo_uri,
            seqrepo_trouble=seqrepo_trouble,
            store=masked(settings.storage_uri),
            store_trouble=store_trouble,
            limits=settings.limits(),
            clock=self._clock(),
        )

    def _look_at_seqrepo(self) -> None:
        if self._settings.seqrepo_uri:
            reference.check(self._settings.seqrepo_uri)

    def _known(self, assembly: str) -> Known:
        opened = reference.for_assembly(
            self._settings.references, assembly, aliases=self._settings.reference_aliases
        )
        contigs = opened.contigs()
        opened.close()
        lines = "\n".join(sorted(f"{contig.name} {contig.accession}" for contig in contigs))
        return Known(contigs=len(contigs), digest=hashlib.sha256(lines.encode()).hexdigest())

    def _clock(self) -> float:
        url = self._settings.backend_url
        with translated(url, "CELERY_BACKEND_URL"), connect(url) as redis:
            return time.time() - now(redis)


def _try(look: Callable[[], Seen]) -> tuple[Seen | None, Trouble | None]:
    """What was seen, or what kept us from it."""
    try:
        return look(), None
    except StepError as error:
        return None, Trouble(kind=type(error).__name__, what=error.what, remedy=error.remedy)
    except OSError as error:
        kept = from_os(error, "the worker cannot look")
        return None, Trouble(kind=type(kept).__name__, what=kept.what, remedy=kept.remedy)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
