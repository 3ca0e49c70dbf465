"""One ingestion as a step: the alleles of an annotated VCF registered, and the conflict log delivered."""

from __future__ import annotations

from pathlib import Path

from anyvar_step.errors import FileSpoiled, FileTrouble
from anyvar_step.files import copy_and_hash
from anyvar_step.models import Counts, Manifest, RunReport, RunRequest, RunStatus
from anyvar_step.step.delivery import Delivered
from anyvar_step.step.drafts import publish, temporary
from anyvar_step.step.endings import dropped_if_spoiled, forget
from anyvar_step.step.intake import Intake
from anyvar_step.step.run import report_of, run, tell
from anyvar_step.step.signals import settle
from anyvar_step.step.waiting import Patience, Watch
from anyvar_step.transport import Fetched, Transport


def ingest(
    transport: Transport,
    source: Intake,
    conflicts: Path | None,
    request: RunRequest,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Have the alleles of ``source`` registered; the run's report.

    The conflict log goes to ``conflicts``, if given. Raises a StepError whose exit code tells what to do.
    """

    def collected(ticket: Manifest, status: RunStatus) -> RunReport:
        return _collect(transport, ticket, status, conflicts)

    return run(transport, source, request, collected, patience=patience, watch=watch)


def _collect(transport: Transport, ticket: Manifest, status: RunStatus, conflicts: Path | None) -> RunReport:
    """Deliver the conflict log, and only then forget the run."""
    with dropped_if_spoiled(transport, ticket), transport.fetch(ticket, status) as fetched:
        delivered = _deliver(fetched, conflicts) if conflicts else Delivered(0, "", Counts())
    forget(transport, ticket)
    report = fetched.report or report_of(ticket, fetched, delivered)
    tell(report)
    return report


def _deliver(fetched: Fetched, conflicts: Path) -> Delivered:
    """Write the log whole or not at all."""
    with temporary(conflicts) as part:
        try:
            with fetched.path.open("rb") as log, part.open("wb") as out:
                size, sha256 = copy_and_hash(log, out)
        except FileNotFoundError:
            raise FileTrouble(
                "the worker wrote no conflict log", "AnyVar's own does so with --require-validation only"
            ) from None
        if fetched.report and sha256 != fetched.report.output_sha256:
            raise FileSpoiled(
                f"{fetched.path} is not what the worker wrote", "Check the shared filesystem, run it again"
            )
        settle()
        publish(part, conflicts)
    return Delivered(size, sha256, Counts())
