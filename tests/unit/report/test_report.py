"""The reports of many runs together: page, MultiQC sections, schema."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import ROOT

from anyvar_step.cli.report import report_command
from anyvar_step.errors import InputNotFound, InvalidInput
from anyvar_step.models import EXAMPLES, Counts, IngestOptions, Registered, RunReport, json_schema
from anyvar_step.pipeline.assembly import count_contigs, notes_on, with_notes
from anyvar_step.report import html
from anyvar_step.report.html import render, seconds
from anyvar_step.report.multiqc import sections
from anyvar_step.report.samples import FailedSample, Sample, findings, read_samples

jsonschema = pytest.importorskip("jsonschema", reason="comes with the workflow extra")

SCHEMA = ROOT / "docs" / "run-report-1.schema.json"
DASH = "\N{EN DASH}"
HOSTILE = '<script>alert("1")</script>&amp;'


def report(**changed: Any) -> RunReport:
    """The report of a run that went well."""
    counts = Counts(records=100, ids=210, alleles={"snv": 90, "insertion": 12}, contigs={"chr1": 100})
    plain: dict[str, Any] = {
        "run_id": "f" * 32 + "-1",
        "input_name": "in.vcf",
        "input_size": 1,
        "input_sha256": "0" * 64,
        "output_size": 2,
        "output_sha256": "1" * 64,
        "options": {},
        "counts": counts,
        "seconds": {"read": 1.0, "annotate": 20.0, "write": 4.0, "stage": 1.0, "wait": 30.0, "collect": 2.0},
        "records_per_second": 4.0,
        "versions": {"anyvar-step": "1"},
    }
    return RunReport.model_validate({**plain, **changed})


def files(name: str) -> dict[str, Any]:
    """What a report says of a whole VCF's input and output."""
    sums = {"input_sha256": "2" * 64, "output_sha256": "3" * 64}
    return {"input_name": name, "input_size": 9, "output_size": 10, **sums}


def written(folder: Path, name: str, **changed: Any) -> Path:
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(**changed).model_dump_json())
    return path


class Tags(HTMLParser):
    """The elements of a page with their attributes; fails on elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def close(self) -> None:
        super().close()
        assert self._open == []


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    parser.close()
    return parser


def test_the_published_schema_is_the_models() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(), (
        "write it anew: anyvar-step report --schema > docs/run-report-1.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_a_report_keeps_to_the_published_schema_and_an_unknown_field_does_not() -> None:
    given = json.loads(report().model_dump_json())
    jsonschema.validate(given, json.loads(SCHEMA.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**given, "surprise": 1}, json.loads(SCHEMA.read_text()))


def test_the_page_needs_no_network_and_runs_its_own_script_alone() -> None:
    page = render([Sample("a", report()), Sample("b", report(notes=["note"]))], "Last night")
    found = tags(page).found
    assert not {"link", "img", "iframe", "object", "form"} & {tag for tag, _ in found}
    assert not [attrs for _, attrs in found if {"src", "href", "style"} & attrs.keys()]
    assert not [attrs for _, attrs in found if any(name.startswith("on") for name in attrs)]
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a["content"] for tag, a in found if a.get("http-equiv") == "Content-Security-Policy")
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"


def test_whatever_stands_in_a_report_is_text_on_the_page() -> None:
    counts = Counts(
        records=3,
        alleles={"snv": 1, HOSTILE: 1},
        errors={HOSTILE: 1},
        examples={HOSTILE: [HOSTILE]},
        contigs={HOSTILE: 3},
        unknown_contigs={HOSTILE: 1},
    )
    words = {"input_name": HOSTILE, "worker": HOSTILE, "notes": [HOSTILE], "run_id": HOSTILE}
    tables = {"versions": {HOSTILE: HOSTILE}, "settings": {HOSTILE: HOSTILE}, "seconds": {HOSTILE: 1.0}}
    page = render([Sample(HOSTILE, report(counts=counts, **words, **tables))], HOSTILE)
    assert [tag for tag, _ in tags(page).found].count("script") == 1
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(") > 10


def test_of_a_long_name_the_end_is_seen_too_and_all_of_it_is_there() -> None:
    name = "family_study_2026_proband_" + "x" * 40 + "_lane_0017"
    page = render([Sample(name, report())], "t")
    row = page.partition(f'<th scope="row" title="{name}">')[2].partition("</th>")[0]
    assert re.sub("<.*?>", "", row) == name
    assert "<span>_lane_0017</span>" in row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0 s"), (0.0421, "0.042 s"), (12.34, "12.3 s"), (30, "30 s")),
        *((240, "4 min"), (245, "4 min 5 s"), (7200, "2 h"), (7380, "2 h 3 min")),
    ],
)
def test_a_duration_is_told_in_units_that_people_read(value: float, text: str) -> None:
    assert seconds(value) == text


def test_the_same_runs_give_the_same_page() -> None:
    samples = [Sample("a", report()), Sample("b", report())]
    assert render(samples, "t") == render(samples, "t")


def numbers_of(page: str, sample: str) -> list[str]:
    """The row of a sample in the first table that has one."""
    row = page.partition(f'<th scope="row" title="{sample}">')[2].partition("</tr>")[0]
    return [text for text in re.findall(r"<td.*?>(.*?)</td>", row) if not text.startswith("GRCh")]


def tiles(page: str) -> dict[str, str]:
    """The sums in the page's head."""
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd></div>", page))


def test_a_run_of_anyvars_own_worker_has_no_throughput_and_its_wait_is_not_the_queues() -> None:
    unknown = {"records_per_second": None, "versions": {}, "finished": ""}
    page = render([Sample("alice", report(seconds={"stage": 1.0, "wait": 30.0}, **unknown))], "t")
    assert numbers_of(page, "alice") == ["100", "210", "0", "0", DASH, "31 s", DASH]
    assert "stage 1 s, wait and work 30 s" in page
    assert "queue" not in page
    assert "AnyVar&#39;s own" in page.replace("AnyVar's own", "AnyVar&#39;s own")


def ingestion(**changed: Any) -> RunReport:
    """The report of an ingestion by our worker."""
    plain: dict[str, Any] = {
        "options": IngestOptions(),
        "counts": Counts(records=90, ids=180, unknown_contigs={"chrUn": 2}),
        "registered": Registered(alleles=170, added=20, conflicts=3),
        "worker": "host",
    }
    return report(**{**plain, **changed})


def test_annotation_and_ingestion_of_the_same_samples_are_told_apart(tmp_path: Path) -> None:
    paths = [written(tmp_path / "reports", name) for name in ("alice", "bela")]
    for name in ("alice", "carol"):
        path = tmp_path / "registered" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(ingestion().model_dump_json())
        paths.append(path)
    samples = read_samples(paths)
    assert [sample.name for sample in samples] == ["alice", "bela", "ingested: alice", "carol"]
    page = render(samples, "t")
    assert numbers_of(page, "alice")[:2] == ["100", "210"]
    assert numbers_of(page, "carol")[:5] == ["90", "2", "3", "170", "20"]
    assert tiles(page) == {
        "samples": "3",
        "records": "200",
        "VRS identifiers": "420",
        "records with VRS_Error": "0",
        "records on unknown contigs": "0",
        "alleles registered": "340",
        "alleles with wrong VRS fields": "6",
    }
    alleles, *others = [bar.name for bar in html.alleles(samples[:2]).bars]
    assert (alleles, others) == ("alice", ["bela"])
    assert [bar.name for bar in html.phases(samples).bars] == [sample.name for sample in samples]
    general = sections(samples)["general_anyvar_step_mqc.json"]["data"]
    assert general["alice"] == {
        "records": 100,
        "ids": 210,
        "errors": 0,
        "unknown": 0,
        "records_per_second": 4.0,
        "registered": 170,
        "conflicts": 3,
    }
    assert list(general) == ["alice", "bela", "carol"]


def test_a_page_of_ingestions_speaks_of_nothing_else() -> None:
    page = render([Sample("alice", ingestion(registered=Registered(alleles=9, added=None)))], "t")
    assert numbers_of(page, "alice")[:5] == ["90", "2", "0", "9", DASH]
    assert re.findall(r"<h2.*?>(.*?)</h2>", page) == [
        *("Problems", "Ingested", "Throughput", "Time by phase", "Each run")
    ]
    assert "Nothing: no wrong VRS field" in page


def test_what_anyvars_worker_does_not_tell_of_an_ingestion_is_shown_as_not_known() -> None:
    silent = {"counts": {}, "registered": None, "worker": "", "seconds": {}, "records_per_second": None}
    samples = [Sample("alice", ingestion(**silent))]
    page = render(samples, "t")
    assert numbers_of(page, "alice") == [DASH] * 8
    assert set(tiles(page).values()) == {"1", DASH}
    assert [finding.text for finding in findings(samples)] == [
        "counts are not known: AnyVar's own worker does not report them"
    ]
    assert not [tag for tag, attrs in tags(page).found if attrs.get("role") == "img"], "no empty plots"


def test_multiqc_names_a_cause_that_is_the_only_one() -> None:
    """Its plots have no legend then."""
    one = Sample("a", report(counts=Counts(records=2, errors={"ref_mismatch": 1})))
    two = Sample("b", report(counts=Counts(records=2, unknown_contigs={"chrUn": 1})))
    name = "errors_anyvar_step_mqc.json"
    assert sections([one])[name]["description"] == "All: REF differs from the reference."
    assert "description" not in sections([one, two])[name]


def test_each_plot_says_its_numbers_to_those_who_do_not_see_it() -> None:
    page = render([Sample("alice", report())], "t")
    labels = [attrs["aria-label"] for tag, attrs in tags(page).found if attrs.get("role") == "img"]
    assert labels == [
        "SNV 90, insertion 12",
        "records per second 4",
        "stage 1 s, queue and start-up 5 s, read 1 s, annotate 20 s, compress and write 4 s, "
        "collect and index 2 s",
    ]


def test_a_bar_is_as_long_as_its_number() -> None:
    made = html.chart({"a": {"x": 30, "y": 10}, "b": {"x": 7}}, ["x", "y", "z"])
    assert made.series == ["x", "y"]
    assert made.ticks == [(0, 0), (10, 25), (20, 50), (30, 75), (40, 100)]
    assert [(part.start, part.width) for part in made.bars[0].parts] == [(0, 75), (75, 25)]
    assert [(part.start, part.width) for part in made.bars[1].parts] == [(0, 17.5)]


@pytest.mark.parametrize(
    ("longest", "clock", "step"),
    [
        (0, False, 0),
        (9, False, 2),
        (1, False, 1),
        (0.03, True, 0.01),
        (6e6, False, 2e6),
        (50, True, 10),
        (200, True, 60),
        (7300, True, 1800),
        (1e6, True, 259_200),
    ],
)
def test_ticks_stand_at_round_numbers(longest: float, clock: bool, step: float) -> None:
    assert html.tick_step(longest, clock) == pytest.approx(step)


def test_all_alleles_are_in_the_bar_whatever_their_kind() -> None:
    counts = Counts(records=9, alleles={"snv": 5, "breakend": 2, "symbolic": 1, "unheard_of": 1})
    [bar] = html.alleles([Sample("a", report(counts=counts))]).bars
    assert {part.label: part.value for part in bar.parts} == {"SNV": 5, "others": 4}


def test_what_went_wrong_last_night_stands_at_the_top() -> None:
    fine = [Sample(f"s{n}", report()) for n in range(3)]
    assert findings(fine) == []
    assert "Nothing: no VRS_Error, no unknown contig." in render(fine, "t")
    slow = report(records_per_second=1.9)
    wrong = report(notes=["in.vcf has 1 of 100 records with a REF that differs"])
    said = findings([*fine, Sample("slow", slow), Sample("wrong", wrong)])
    assert [finding.sample for finding in said] == ["slow", "wrong"]
    assert "1 of 100 records" in said[1].text
    other = Sample("old", report(versions={"anyvar-step": "0"}))
    assert "Not all runs had the same version" in render([*fine, other], "t")


def test_samples_that_failed_stand_on_top_of_the_page_and_are_counted() -> None:
    page = render(
        [Sample("alice", report())], "t", [FailedSample(name) for name in ("bela", HOSTILE, "bela")]
    )
    assert re.findall(r"<h2.*?>(.*?)</h2>", page)[:2] == ["Failed", "Problems"]
    assert (tiles(page)["samples"], tiles(page)["failed"]) == ("3", "2")
    assert re.findall(r"<li.*?>(.*?)</li>", page.partition('<ul class="failed">')[2])[0] == "bela"
    assert HOSTILE not in page
    assert "<dt>failed</dt>" not in render([Sample("alice", report())], "t")


def test_a_night_on_which_all_failed_has_its_page_and_its_sections(tmp_path: Path) -> None:
    arguments = ["--failed", "alice", "--failed", "bela", "-o", str(tmp_path / "out.html")]
    arguments += ["--multiqc", str(tmp_path / "mqc")]
    done = CliRunner().invoke(report_command, arguments, catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "")
    page = (tmp_path / "out.html").read_text()
    assert re.findall(r"<h2.*?>(.*?)</h2>", page) == ["Failed"]
    tags(page)
    made = {path.name: json.loads(path.read_text())["data"] for path in (tmp_path / "mqc").iterdir()}
    assert made == {
        "failed_anyvar_step_mqc.json": "<ul><li>alice</li><li>bela</li></ul>",
        "general_anyvar_step_mqc.json": {"alice": {"run": "failed"}, "bela": {"run": "failed"}},
    }


def test_a_sample_is_named_for_its_file_and_for_its_path_where_two_files_have_that_name(
    tmp_path: Path,
) -> None:
    paths = [written(tmp_path / "x", "run"), written(tmp_path / "y", "run"), written(tmp_path, "alice")]
    assert [sample.name for sample in read_samples(paths)] == [str(paths[0]), str(paths[1]), "alice"]


def test_what_is_no_report_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match=re.escape(str(tmp_path / "gone.json"))):
        read_samples([tmp_path / "gone.json"])
    for content in (
        "",
        "[]",
        "{}",
        report().model_dump_json().replace('"schema_version":1', '"schema_version":2'),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InvalidInput, match=re.escape(str(tmp_path / "bad.json"))):
            read_samples([tmp_path / "bad.json"])


def test_the_command_writes_page_and_sections(tmp_path: Path) -> None:
    counts = Counts(records=2, ids=2, alleles={"snv": 2}, errors={"ref_mismatch": 1})
    runs = [written(tmp_path, "alice"), written(tmp_path, "bela", counts=counts)]
    arguments = [*map(str, runs), "-o", str(tmp_path / "out.html"), "--multiqc", str(tmp_path / "mqc")]
    done = CliRunner().invoke(report_command, arguments, catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "")
    assert "alice" in (tmp_path / "out.html").read_text()
    made = {path.name: json.loads(path.read_text()) for path in (tmp_path / "mqc").iterdir()}
    assert sorted(made) == [
        f"{name}_anyvar_step_mqc.json" for name in ("alleles", "errors", "general", "phases")
    ]
    assert made["alleles_anyvar_step_mqc.json"]["data"]["bela"] == {"SNV": 2}
    assert made["errors_anyvar_step_mqc.json"]["data"] == {"bela": {"REF differs from the reference": 1}}
    assert made["general_anyvar_step_mqc.json"]["data"]["alice"]["records_per_second"] == 4.0


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "name the runs' reports"), (["x.json"], "name what to write")]
)
def test_a_call_that_would_do_nothing_is_wrong_usage(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(report_command, arguments)
    assert (done.exit_code, said in done.output) == (2, True)


@pytest.mark.parametrize("contigs", ["a", "aab", "aba", "abcabc"])
def test_records_are_counted_by_contig_in_whatever_order_they_come(contigs: str) -> None:
    counts = Counts()
    for _ in range(2):
        count_contigs(counts, [f"{name}\t1\t.\tA\tC".encode() for name in contigs])
    assert counts.contigs == {name: 2 * contigs.count(name) for name in dict.fromkeys(contigs)}


def test_a_contigs_name_that_begins_with_anothers_is_another() -> None:
    counts = Counts()
    count_contigs(counts, [b"chr1\t1", b"chr10\t1", b"chr1\t1"])
    assert counts.contigs == {"chr1": 2, "chr10": 1}


def test_the_first_examples_are_kept_also_over_pieces() -> None:
    whole = Counts()
    for piece in range(3):
        part = Counts()
        for n in range(2 * EXAMPLES):
            part.exemplify("ref_mismatch", f"{piece}-{n}")
        whole.add(part)
    assert whole.examples == {"ref_mismatch": [f"0-{n}" for n in range(EXAMPLES)]}


def test_one_report_on_pieces_adds_up_what_they_did_and_lists_what_differs() -> None:
    store = {"alleles": 5, "added": 3, "conflicts": 0}
    first = report(
        run_id="a-1",
        registered=store,
        sequences={"chr1": "SQ.1"},
        versions={"anyvar-step": "1", "vrs": "2"},
        worker="host:1:x",
        finished="2026-01-01T00:00:02+00:00",
        notes=["odd"],
    )
    second = report(
        run_id="b-1",
        registered={**store, "added": 1},
        sequences={"chr2": "SQ.2"},
        versions={"anyvar-step": "2", "vrs": "2"},
        settings={"CELERY_TIMEZONE": "UTC"},
        worker="host:1:x",
        finished="2026-01-01T00:00:01+00:00",
        notes=["odd", "strange"],
    )
    whole = RunReport.merged(
        [first, second],
        **files("whole.vcf"),
    )
    assert (whole.input_name, whole.input_size, whole.output_size) == ("whole.vcf", 9, 10)
    assert (whole.counts.records, whole.counts.ids, whole.counts.alleles["snv"]) == (200, 420, 180)
    assert whole.registered == Registered(alleles=10, added=4, conflicts=0)
    assert whole.seconds["annotate"] == 40.0
    assert whole.records_per_second == 4.0
    assert whole.sequences == {"chr1": "SQ.1", "chr2": "SQ.2"}
    assert whole.versions == {"anyvar-step": "1, 2", "vrs": "2"}
    assert whole.settings == {"CELERY_TIMEZONE": "UTC"}
    assert (whole.run_id, whole.worker) == ("a-1, b-1", "host:1:x")
    assert whole.finished == "2026-01-01T00:00:02+00:00"
    assert whole.notes == ("odd", "strange")


def test_what_one_piece_does_not_tell_is_not_made_up_for_the_whole() -> None:
    store = {"alleles": 5, "added": 3}
    silent = report(seconds={}, records_per_second=None)
    whole = {"input_name": "", "input_size": 1, "input_sha256": "", "output_size": 1, "output_sha256": ""}
    later = report(registered={"alleles": 2, "added": None})
    assert RunReport.merged([report(registered=store), later], **whole).registered == Registered(
        alleles=7, added=None
    )
    assert RunReport.merged([silent, silent], **whole).registered is None
    mixed = RunReport.merged([report(), silent], **whole)
    assert mixed.records_per_second == report().records_per_second
    assert mixed.counts.records == 200


def test_notes_on_pieces_are_on_the_whole_under_its_name() -> None:
    pieces = []
    for number in (1, 2):
        name = f"in.vcf (piece {number} of 2)"
        counts = Counts(records=100, errors={"ref_mismatch": number}, unknown_contigs={"chrUn": 3})
        notes = (f"the header of {name} is odd", *notes_on(counts, "GRCh38", name))
        pieces.append(report(input_name=name, counts=counts, notes=notes))
    whole = RunReport.merged(pieces, **files("in.vcf"))
    assert with_notes(whole, pieces).notes == (
        "the header of in.vcf is odd",
        "in.vcf has 6 of 200 records on contigs that the reference GRCh38 does not have, "
        "left without VRS ids: chrUn",
        "in.vcf has 3 of 200 records with a REF that differs from the reference GRCh38; they carry VRS_Error",
    )


def test_a_failed_sample_shows_its_last_message_and_links_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "alice #1.log"
    log.parent.mkdir()
    log.write_text("anyvar-step: a note\nTraceback of something else\nanyvar-step: no <VCF>\nlast words\n")
    run = FailedSample.parse(f"al=ice={log}")
    assert run == FailedSample("al=ice", log, "no <VCF>")
    page = render([], "t", [run, FailedSample.parse("bela=/nowhere.log")], folder=tmp_path)
    assert "no &lt;VCF&gt;" in page
    assert 'href="logs/alice%20%231.log"' in page
    assert "bela=/nowhere.log" in page


def test_outputs_are_linked_where_they_are_and_options_are_words(tmp_path: Path) -> None:
    out = tmp_path / "out" / "a b.vcf.gz"
    out.parent.mkdir()
    out.touch()
    gone = report(output="/nowhere/out.vcf")
    page = render([Sample("a", report(output=str(out))), Sample("b", gone)], "t", folder=tmp_path / "page")
    assert f'<a href="../out/a%20b.vcf.gz">{out}</a>' in page
    assert "/nowhere/out.vcf, " in page
    assert 'href="/nowhere' not in page
    assert "identifiers of REF and ALT" in page
    assert "for_ref" not in page
    assert "<td>GRCh38</td>" in page
