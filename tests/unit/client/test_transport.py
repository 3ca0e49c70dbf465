"""What a step does over any transport."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import create_autospec

import httpx
import pytest

from anyvar_step.client.http import HttpTransport
from anyvar_step.client.transport import Transport, forget_delivered
from anyvar_step.errors import AccessRefused, FileTrouble, StepError, Unavailable
from anyvar_step.models import AnnotateOptions, Manifest, RunRequest


@pytest.mark.parametrize("kind", [Unavailable, AccessRefused, FileTrouble])
def test_a_step_whose_output_is_delivered_ends_well_whatever_forgetting_meets(kind: type[StepError]) -> None:
    """Redis may get another password in that moment: OUT is in place, and the exit code must say so."""
    transport = create_autospec(Transport, instance=True)
    transport.forget.side_effect = kind("what happened")
    ticket = create_autospec(Manifest, instance=True, run_id="run-1")
    forget_delivered(transport, ticket)
    transport.forget.assert_called_once_with(ticket)


def test_an_input_that_changes_once_its_run_id_is_known_is_no_run(tmp_path: Path) -> None:
    """Its run id is that of the content before: another step would take the output for its own."""
    vcf = tmp_path / "in.vcf"
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    vcf.write_text(f"{header}chr1\t1\t.\tA\tC\t.\t.\t.\n")
    methods = []

    def answer(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        if request.method == "HEAD":  # the run id is known, and nothing is sent yet
            vcf.write_text(f"{header}chr1\t1\t.\tA\tG\t.\t.\t.\n")
        return httpx.Response({"HEAD": 404, "PUT": 202, "DELETE": 204}[request.method])

    transport = HttpTransport("http://web.example", folder=tmp_path)
    mock = httpx.Client(base_url="http://web.example/", transport=httpx.MockTransport(answer))
    changed = pytest.raises(FileTrouble, match=r"in\.vcf has changed while it was uploaded")
    with mock as transport._client._http, vcf.open("rb") as source, changed:
        transport.submit(source, vcf.name, RunRequest(options=AnnotateOptions()))
    assert methods == ["HEAD", "PUT", "DELETE"]
