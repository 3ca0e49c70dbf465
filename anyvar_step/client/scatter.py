"""One VCF as several runs on the same queue: cut, annotated wherever workers are, gathered in order.

Each piece is a run like any other, found again by its content: a step that is started again takes finished
pieces as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from anyvar_step.client.cancellation import cancel_on_failure, interruptible
from anyvar_step.client.deliver import (
    Delivered,
    Target,
    become_bcf,
    check_digest,
    count,
    provenance_command,
    published,
    side_outputs,
)
from anyvar_step.client.source import InputSource
from anyvar_step.client.step import annotate, log_notes, refuse_for_anyvars_workers, report_of
from anyvar_step.client.transport import (
    Fetched,
    Transport,
    end_failed,
    fetch_or_forget,
    forget_delivered,
)
from anyvar_step.client.wait import Patience, Watch, wait_all
from anyvar_step.errors import CorruptFile, InvalidInput, StepError
from anyvar_step.models import Counts, Manifest, Progress, RunReport, RunRequest, RunStatus, State
from anyvar_step.text import escaped
from anyvar_step.vcf import VcfReader, count_records
from anyvar_step.vcf.index import JoinedIndex
from anyvar_step.vcf.reader import open_input
from anyvar_step.vcf.split import Joiner, Piece, cut

#: A piece below this many bytes of input is not worth a task of its own.
WORTHWHILE = 4 << 20
#: Pieces for each worker process: enough to even out their speeds.
PER_PROCESS = 2
MOST = 1024


def automatic(size: int, processes: int) -> int:
    """Into how many pieces to cut a file of that many bytes for that many worker processes.

    A power of two, so that a step started again beside a few more or fewer workers finds its pieces.
    """
    wanted = min(size // WORTHWHILE, PER_PROCESS * processes, MOST)
    return 1 << (wanted.bit_length() - 1) if processes > 1 and wanted > 1 else 1


def annotate_in_pieces(
    transport: Transport,
    source: Path,
    target: Target,
    request: RunRequest,
    *,
    chunks: int,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Annotate ``source`` into ``target`` as at most that many runs; the report of all together.

    Raises as ``annotate`` does; the failure of one piece is the step's, and ends the others.
    """
    refuse_for_anyvars_workers(transport, request, ndjson=target.side_outputs.ndjson is not None)
    begin = time.monotonic()
    pieces = cut(source, escaped(source.name), chunks)
    if len(pieces) == 1:
        return annotate(transport, InputSource(source), target, request, patience=patience, watch=watch)
    tickets, digest = list[Manifest](), hashlib.sha256()
    with interruptible(), cancel_on_failure(transport):
        for number, piece in enumerate(pieces, 1):
            with piece.open(digest.update) as stream:
                name = f"{escaped(source.name)} (piece {number} of {len(pieces)})"
                asked = request.model_copy(update={"piece": number})
                tickets.append(transport.submit(stream, name, asked)[0])
        staged = time.monotonic() - begin
        reports, size, sha256 = _gather(transport, tickets, target, pieces, patience, watch)
    for ticket in tickets:
        forget_delivered(transport, ticket)
    # Imported here, for the same reason.
    from anyvar_step.pipeline.assembly import with_notes

    merged = RunReport.merged(
        reports,
        input_name=escaped(source.name),
        input_size=source.stat().st_size,
        input_sha256=digest.hexdigest(),
        output_size=size,
        output_sha256=sha256,
    )
    took = time.monotonic() - begin - staged
    report = with_notes(merged, reports).with_seconds(stage=staged, wait=took)
    log_notes(report)
    return report


def _gather(
    transport: Transport,
    tickets: list[Manifest],
    target: Target,
    pieces: Sequence[Piece],
    patience: Patience,
    watch: Watch,
) -> tuple[list[RunReport], int, str]:
    """Join the outputs in order, each as soon as it and all before it have ended.

    Their reports, and size and hex SHA-256 of the whole.
    """
    # Imported here: it needs the engine, and only steps with --chunks do.
    from anyvar_step.pipeline.assembly import AssemblyCheck

    whole, first = Counts(), tickets[0]
    check = AssemblyCheck(first.options.assembly, escaped(pieces[0].path.name), force=first.force)
    overall = _overall(tickets, pieces, watch)
    finished: dict[int, RunStatus] = {}
    reports: list[RunReport] = []
    with side_outputs(target.side_outputs) as fill, published(target) as part:
        with part.open("w+b") as out:
            joiner, index = Joiner(out, target.output_format, target.level), JoinedIndex()
            for ended, status in wait_all(transport, tickets, patience, overall):
                if status.status_code != 200:
                    problem = end_failed(transport, tickets[ended], status)
                    raise _placed(problem, pieces, ended, tickets[ended].input_name)
                finished[ended] = status
                overall(status)
                while (number := len(reports)) in finished:
                    ticket = tickets[number]
                    with fetch_or_forget(transport, ticket, finished[number]) as fetched:
                        sha256 = joiner.add(fetched.path, provenance_command(fetched, ticket))
                        index.add(fetched.path, fetched.index if target.tbi else None, joiner.offsets)
                        counts = _checked(fetched, pieces[number], sha256)
                        reports.append(report_of(ticket, fetched, Delivered(0, sha256, counts)))
                        whole.add(counts)
                        check.judge(whole)
            check.end(whole)
            joiner.close()
            out.flush()
            os.fsync(out.fileno())
        index.write(Path(f"{part}.tbi"))
        fill(part, *reports)
        size, sha256 = (
            become_bcf(part, target, whole) if target.bcf else (joiner.stored.size, joiner.stored.sha256)
        )
    return reports, size, sha256


def _placed(problem: StepError, pieces: Sequence[Piece], number: int, name: str) -> StepError:
    """The problem of the piece called ``name`` in terms of IN: the byte of the damage, or the line of IN."""
    if not isinstance(problem, InvalidInput):
        return problem
    path = pieces[0].path
    shown = escaped(path.name)
    try:
        with open_input(path, shown) as raw:
            count_records(raw, shown)
    except InvalidInput as damage:
        return damage
    before = sum(map(_records, pieces[:number]))  # a piece repeats the header, so that its lines count alike
    text = re.sub(
        re.escape(f"{name} line ") + "([0-9]+)",
        lambda found: f"{shown} line {int(found[1]) + before}",
        str(problem),
    )
    return InvalidInput(text.replace(name, shown))


def _records(piece: Piece) -> int:
    with piece.open() as stream:
        return count_records(stream, escaped(piece.path.name))


def _checked(fetched: Fetched, piece: Piece, sha256: str) -> Counts:
    """The counts of the output, checked against its report, or, from AnyVar's worker, against the input."""
    if fetched.report:
        check_digest(fetched, sha256)
        return fetched.report.counts
    expected, counts = _records(piece), Counts()
    with fetched.path.open("rb") as raw:
        for lines in VcfReader(raw, str(fetched.path)).blocks():
            count(lines, counts)
    if counts.records != expected:
        raise CorruptFile(f"{fetched.path} does not have the {expected} records of its input", "Run it again")
    return counts


def _overall(
    tickets: Sequence[Manifest], pieces: Sequence[Piece], watch: Watch
) -> Callable[[RunStatus], None]:
    """A watch that shows one progress for all pieces, weighted by size; attempts at a piece count as one."""
    sizes = {ticket.digest[:32]: piece.size for ticket, piece in zip(tickets, pieces, strict=True)}
    total, latest = sum(sizes.values()), dict[str, Progress]()
    begin = time.monotonic()

    def follow(status: RunStatus) -> None:
        piece = status.run_id[:32]
        before = latest.get(piece, Progress())
        ended = before.model_copy(update={"fraction": 1.0})
        latest[piece] = ended if status.status_code == 200 else status.progress or before
        workers = {progress.worker for progress in latest.values() if progress.worker}
        overall = Progress(
            records=sum(progress.records for progress in latest.values()),
            fraction=min(1.0, sum(p.fraction * sizes.get(piece, 0) for piece, p in latest.items()) / total),
            seconds=time.monotonic() - begin,
            worker=f"{len(workers)} processes",
        )
        watch(status.model_copy(update={"status": State.PROGRESS, "progress": overall}))

    return follow
