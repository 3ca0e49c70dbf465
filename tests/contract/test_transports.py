"""One suite over all ways: the same status for the same run, the same output and failure for the same VCF."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Site, stored, write_vcf

from anyvar_step.client import local
from anyvar_step.client.celery import CeleryTransport
from anyvar_step.client.deliver import SideOutputs, Target
from anyvar_step.client.http import HttpTransport
from anyvar_step.client.source import InputSource
from anyvar_step.client.step import annotate
from anyvar_step.client.transport import Transport
from anyvar_step.client.wait import Patience, wait
from anyvar_step.errors import ConfigurationError, CorruptFile, InvalidInput, RunCancelled
from anyvar_step.models import (
    AnnotateOptions,
    Manifest,
    OutputFormat,
    Progress,
    RunReport,
    RunRequest,
    RunStatus,
    State,
)
from anyvar_step.runs.state import RunState
from anyvar_step.runs.work_dir import OUTPUT_SUFFIX, REPORT_SUFFIX
from anyvar_step.settings import load

REQUEST = RunRequest(options=AnnotateOptions())
BOTH = ["celery", "http"]
SAME_IN_ALL_REPORTS = {"input_name", "input_size", "input_sha256", "output_size", "output_sha256", "options"}
SAME_IN_ALL_REPORTS |= {"counts", "registered", "versions", "sequences", "notes"}
Make = Callable[[str], Transport]


@contextlib.contextmanager
def transports(site: Site, code: int = 500) -> Iterator[Make]:
    """Makes a transport of either kind for a site whose failure code is that."""
    site.extra["ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE"] = str(code)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(site.web())

        def make(kind: str) -> Transport:
            transport: Transport
            transport = CeleryTransport(load(site.environ)) if kind == "celery" else HttpTransport(api.url)
            stack.callback(transport.close)
            return transport

        yield make


@pytest.fixture(scope="module")
def make(served: Site) -> Iterator[Make]:
    """Transports beside a worker."""
    with transports(served) as made:
        yield made


def told(status: RunStatus) -> dict[str, Any]:
    """All but where the output lies: Celery's is the worker's path, HTTP's the downloaded file."""
    return status.model_dump(exclude={"output"})


FAILURES = ["TimeLimitExceeded", "SoftTimeLimitExceeded", "WorkerLostError", "ValueError", "InvalidInput"]
FAILURES += ["ConfigurationError", "FileTrouble", "AccessRefused", "TimeLimitReached", "RunLost"]


@pytest.mark.quick(1)
@pytest.mark.parametrize("code", [500, 418, 599, 404, 401, 503])
def test_both_give_the_same_status_whatever_the_failure_code(site: Site, code: int) -> None:
    with transports(site, code) as make, RunState(load(site.environ)) as state:
        celery, http = make("celery"), make("http")
        stored(state, "queued", State.SENT)
        stored(state, "begun", State.STARTED)
        stored(state, "again", State.RETRY)
        stored(state, "working", State.PROGRESS, Progress(records=7, fraction=0.5, worker="w").model_dump())
        state.acquire_lock("working", "w")
        stored(state, "cancelled", State.REVOKED)
        stored(state, "empty", State.SUCCESS, "")
        names = ["unknown", "queued", "begun", "again", "working", "cancelled", "empty"]
        for name in FAILURES:
            failure = {"exc_type": name, "exc_message": ["why", 3], "exc_module": "m"}
            stored(state, f"failed-{name}", State.FAILURE, failure)
            names.append(f"failed-{name}")
        for name in names:
            expected = celery.status(name)
            assert told(http.status(name)) == told(expected)
            ended = name.startswith(("failed", "cancelled"))
            assert (expected.status_code == code and expected.error_code is not None) == ended


def submitted(transport: Transport, vcf: Path) -> Manifest:
    """The ticket of a run that was asked for as REQUEST says."""
    with vcf.open("rb") as source:
        ticket, _ = transport.submit(source, vcf.name, REQUEST)
    return ticket


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("code", [404, 500, 418, 599])
def test_the_wait_ends_on_the_failure_code_whatever_it_is(site: Site, code: int, kind: str) -> None:
    with transports(site, code) as make, RunState(load(site.environ)) as state:
        transport = make(kind)
        seen: list[RunStatus] = []
        stored(state, "run", State.SENT)

        def watch(status: RunStatus) -> None:
            seen.append(status)
            stored(state, "run", State.FAILURE, {"exc_type": "ValueError", "exc_message": ["why"]})

        ticket = HttpTransport.find(transport, "run")  # type: ignore[arg-type]  # says no more than the id
        status = wait(transport, ticket, Patience(), watch)
        assert (status.status_code, status.error_code, status.message) == (code, "RUN_FAILURE", "why")
        assert [each.status_code for each in seen] == [202]


@pytest.mark.parametrize("kind", BOTH)
def test_a_run_goes_from_submission_to_200_and_is_forgotten(
    make: Make, served: Site, kind: str, vcf: Path
) -> None:
    transport = make(kind)
    with vcf.open("rb") as source:
        ticket, found = transport.submit(source, vcf.name, REQUEST)
    assert not found
    assert (ticket.input_name, ticket.input_size) == (vcf.name, vcf.stat().st_size)
    status = wait(transport, ticket, Patience(timeout=60), lambda _: None)
    assert (status.status_code, status.status, status.error_code) == (200, State.SUCCESS, None)
    with transport.fetch(ticket, status) as fetched:
        assert fetched.report is not None
        assert fetched.path.stat().st_size == fetched.report.output_size
        assert fetched.report.counts.records == 200
        assert fetched.report.input_sha256 == ticket.input_sha256
    transport.forget(ticket)
    assert make(kind).status(ticket.run_id).missing
    assert served.left_over() == []


@pytest.mark.parametrize("kind", BOTH)
def test_the_same_content_is_one_run_and_the_last_holder_ends_it(site: Site, kind: str, vcf: Path) -> None:
    with transports(site) as make:
        first, second = make(kind), make(kind)
        with vcf.open("rb") as source:
            ticket, found = first.submit(source, vcf.name, REQUEST)
        with vcf.open("rb") as source:
            again, found_again = second.submit(source, vcf.name, REQUEST)
        assert (found, found_again, again.run_id) == (False, True, ticket.run_id)
        assert second.status(ticket.run_id).running
        first.cancel(ticket)
        assert second.status(ticket.run_id).running
        second.cancel(ticket)
        assert second.status(ticket.run_id).error_code == "RUN_CANCELLED"
        assert site.left_over() == []
        # A cancelled run is not handed out again: the next one has an id of its own.
        with vcf.open("rb") as source:
            third, found = second.submit(source, vcf.name, REQUEST)
        assert not found
        assert third.run_id != ticket.run_id
        second.cancel(third, shared=False)


@pytest.mark.parametrize("kind", BOTH)
def test_a_callers_own_run_id_names_one_content(site: Site, kind: str, vcf: Path, genome: Path) -> None:
    request = REQUEST.model_copy(update={"run_id": f"my-own-{kind}"})
    other = write_vcf(site.folder / "other.vcf", genome, seed=9)
    with transports(site) as make:
        transport = make(kind)
        with vcf.open("rb") as source:
            assert transport.submit(source, vcf.name, request)[1] is False
        with vcf.open("rb") as source:
            assert transport.submit(source, vcf.name, request)[1] is True
        with other.open("rb") as source, pytest.raises(ConfigurationError, match="another input"):
            transport.submit(source, other.name, request)
        transport.cancel(transport.find(f"my-own-{kind}"), shared=False)
        with vcf.open("rb") as source, pytest.raises(ConfigurationError, match="cancelled"):
            transport.submit(source, vcf.name, request)


@pytest.mark.parametrize("kind", BOTH)
def test_a_cancelled_run_ends_the_wait_of_others(site: Site, kind: str, vcf: Path) -> None:
    with transports(site) as make:
        transport = make(kind)
        ticket = submitted(transport, vcf)
        other = make("celery")

        def cancelled(_: RunStatus) -> None:
            other.cancel(other.find(ticket.run_id), shared=False)

        status = wait(
            transport, ticket, Patience(), lambda _: other.cancel(other.find(ticket.run_id), shared=False)
        )
        assert status.error_class == RunCancelled.__name__


@pytest.mark.parametrize("kind", BOTH)
def test_a_run_that_vanishes_is_lost(site: Site, kind: str, vcf: Path) -> None:
    with transports(site) as make, RunState(load(site.environ)) as state:
        transport = make(kind)
        ticket = submitted(transport, vcf)
        status = wait(transport, ticket, Patience(), lambda _: state.forget(ticket.run_id, ticket.digest))
        assert status.lost


@pytest.mark.parametrize("kind", BOTH)
def test_a_run_that_was_dropped_without_being_cancelled_is_lost(site: Site, kind: str, vcf: Path) -> None:
    with transports(site) as make, RunState(load(site.environ)) as state:
        transport = make(kind)
        ticket = submitted(transport, vcf)
        status = wait(transport, ticket, Patience(), lambda _: state.mark_lost(ticket.run_id, "forsaken"))
        assert status.lost
        assert "forsaken" in status.message


def test_two_steps_that_lose_the_run_they_share_attempt_it_again_once(site: Site, vcf: Path) -> None:
    with transports(site) as make:
        first, second = make("celery"), make("celery")
        with vcf.open("rb") as source:
            ticket, _ = first.submit(source, vcf.name, REQUEST)
        with vcf.open("rb") as source:
            second.submit(source, vcf.name, REQUEST)
        again = first.resubmit(ticket)
        assert again
        assert second.status(ticket.run_id).lost
        assert second.resubmit(ticket) == again
        second.cancel(again, shared=False)


def test_a_worker_lost_with_its_work_done_is_no_loss_though_its_output_is_seen_late(
    site: Site, vcf: Path
) -> None:
    """As where a shared filesystem shows a removal before what was published ahead of it."""
    with transports(site) as make, RunState(load(site.environ)) as state:
        transport = make("celery")
        ticket = submitted(transport, vcf)
        [folder] = site.work_dir.glob(f"*/{ticket.run_id}")
        (folder / ticket.staged_input).rename(folder / ".late")
        stored(
            state, ticket.run_id, State.FAILURE, {"exc_type": "WorkerLostError", "exc_message": ["signal 9"]}
        )
        output = folder / f"{ticket.staged_input}{OUTPUT_SUFFIX}"
        shown = threading.Timer(1, lambda: (folder / ".late").rename(output))
        shown.start()
        assert transport.resubmit(ticket) == ticket
        status = wait(transport, ticket, Patience(), lambda _: None)
        assert (status.status_code, status.output) == (200, str(output))
        transport.forget(ticket, shared=False)


def test_an_output_that_is_gone_is_spoiled_though_its_report_is_seen_late(site: Site, vcf: Path) -> None:
    """Or the next call would find the same run again."""
    site.extra["ANYVAR_STEP_LATENCY_WAIT"] = "1"
    with site.worker(), transports(site) as make:
        transport = make("celery")
        ticket = submitted(transport, vcf)
        status = wait(transport, ticket, Patience(), lambda _: None)
        [folder] = site.work_dir.glob(f"*/{ticket.run_id}")
        (folder / f"{ticket.staged_input}{OUTPUT_SUFFIX}").unlink()
        report = folder / f"{ticket.staged_input}{REPORT_SUFFIX}"
        report.rename(folder / ".late")
        shown = threading.Timer(0.5, lambda: (folder / ".late").rename(report))
        shown.start()
        with pytest.raises(CorruptFile), transport.fetch(ticket, status):
            pass
        transport.forget(ticket, shared=False)


@pytest.mark.parametrize("kind", BOTH)
def test_whether_workers_are_there_can_be_asked(site: Site, kind: str) -> None:
    with site.worker("--name", f"ours-{kind}@%h", concurrency=2), transports(site) as make:
        transport = make(kind)
        assert transport.worker_processes() == 2


@pytest.mark.parametrize("kind", BOTH)
def test_that_no_workers_are_there_can_be_asked(site: Site, kind: str) -> None:
    with transports(site) as make:
        assert make(kind).worker_processes() == 0


def way_of(make: Make, kind: str, served: Site) -> Callable[..., RunReport]:
    """``annotate`` of that way, with the arguments of the in-process one."""

    def over_transport(source: InputSource, target: Target, request: RunRequest) -> RunReport:
        return annotate(make(kind), source, target, request, patience=Patience(), watch=lambda _: None)

    def in_process(source: InputSource, target: Target, request: RunRequest) -> RunReport:
        return local.annotate(load(served.environ), source, target, request, watch=lambda _: None)

    return in_process if kind == "local" else over_transport


@pytest.mark.parametrize(("form", "bcf"), [("v", False), ("z", False), ("z", True)])
def test_the_outputs_are_the_same_bytes(
    make: Make, served: Site, vcf: Path, tmp_path: Path, form: OutputFormat, bcf: bool
) -> None:
    source = tmp_path / "in.vcf"
    source.write_text(vcf.read_text().replace("DP=9", "."))  # BCF wants fields declared
    request = REQUEST.model_copy(update={"output_format": form, "command": "annotate --assembly GRCh38"})
    found = []
    for kind in ("local", *BOTH):
        folder = tmp_path / kind
        folder.mkdir()
        side = SideOutputs(tsv=folder / "out.tsv")
        target = Target(folder / "out", form, index=form == "z", bcf=bcf, side_outputs=side)
        asked = request.model_copy(update={"index": target.tbi})
        report = way_of(make, kind, served)(InputSource(source), target, asked)
        assert report.counts.records == 200
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        for name in files.keys() & {"out.tbi", "out.csi"}:  # htslib's or our own: equal in what they find
            files[name] = b""
        told = report.model_dump(include=SAME_IN_ALL_REPORTS)
        found.append((files, told))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) == (3 if form == "z" else 2)


@pytest.mark.parametrize("kind", ["local", *BOTH])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("chr1\t", "chr1\tx", "in.vcf line 5: "),
        ("chr1\t", "chr7\t", "in.vcf has no contig that the reference GRCh38 knows"),
        ("length=200000", "length=199999", "its header says that chr1 has 199999 bases"),
    ],
)
def test_bad_input_is_the_same_failure(
    make: Make, served: Site, vcf: Path, tmp_path: Path, kind: str, old: str, new: str, words: str
) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out"
    source.write_text(vcf.read_text().replace(old, new))
    with pytest.raises(InvalidInput) as refusal:
        way_of(make, kind, served)(InputSource(source), Target(out, "v", index=False), REQUEST)
    assert words in str(refusal.value)
    assert not out.exists()
    assert served.left_over() == []
