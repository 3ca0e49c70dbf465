"""A SeqRepo keeps the contract of references, and gives the accessions and bases that a FASTA would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engines import Annotator
from seqrepos import RestServer, served, write_seqrepo
from support import ROOT

from anyvar_step.errors import ConfigurationError, Unavailable
from anyvar_step.reference import Reference, check, for_assembly, open_reference, seqrepo
from unit.reference.test_fasta import SEQUENCES, ReferenceContract, accession_of, write_fasta


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sequences under GRCh38, one of them under further names, and one that is another assembly's."""
    stored = {text: [f"GRCh38:{name}"] for name, text in SEQUENCES.items()}
    stored[SEQUENCES["chr1"]] += ["GRCh38:one", "refseq:NC_000001.11", "GRCh37:chr9"]
    stored[SEQUENCES["2"]] += ["refseq:both"]
    stored[SEQUENCES["chrM"]] += ["refseq:NC_012920.1", "genbank:both"]
    stored["ACGTACGT"] = ["GRCh37:chr1", "refseq:NC_000001.10"]
    return write_seqrepo(tmp_path_factory.mktemp("seqrepo") / "2026-11-23", stored)


class TestSeqRepo(ReferenceContract):
    @pytest.fixture
    def reference(self, uri: str) -> Reference:
        return open_reference("GRCh38", uri)

    def test_forked_processes_read_on_without_disturbing_each_other(self, reference: Reference) -> None:
        contig = reference.contig("chr1")
        assert contig
        if (child := os.fork()) == 0:
            expected = [SEQUENCES["chr1"][i : i + 9].upper().encode() for i in range(0, 190_000, 997)]
            right = all(contig.fetch(i * 997, i * 997 + 9) == text for i, text in enumerate(expected))
            os._exit(0 if right else 1)
        for i in range(190_000, 0, -997):
            assert contig.fetch(i, i + 9) == SEQUENCES["chr1"][i : i + 9].upper().encode()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_names_of_all_namespaces_lead_to_the_assemblys_sequences(self, reference: Reference) -> None:
        """A name of another assembly's sequence does not, nor does one that two sequences share."""
        found = {name: reference.contig(name) for name in ("one", "NC_000001.11", "NC_000001.10", "both")}
        assert {name: contig and contig.name for name, contig in found.items()} == {
            "one": "chr1",
            "NC_000001.11": "chr1",
            "NC_000001.10": None,
            "both": None,
        }


def test_the_same_name_is_another_sequence_in_another_assembly(uri: str) -> None:
    contig = for_assembly({}, "GRCh37", seqrepo=uri).contig("chr1")
    assert contig
    assert (contig.fetch(0, 99), contig.accession) == (b"ACGTACGT", accession_of("ACGTACGT"))


def test_records_get_the_ids_that_a_fasta_gives(uri: str, tmp_path: Path) -> None:
    text = SEQUENCES["chr1"].upper()
    places = range(1, 150_000, 613)
    lines = [f"chr1\t{i + 1}\t.\t{text[i]}\t{text[i]}{text[i]},A,<DEL>\t.\t.\t.".encode() for i in places]
    lines += [f"1\t{i + 1}\t.\t{text[i : i + 4]}\t{text[i]}\t.\t.\tAC=1".encode() for i in places]
    fasta = write_fasta(tmp_path / "ref.fa")
    ours, theirs = (
        Annotator(open_reference("GRCh38", place), for_ref=True, attributes=True).annotate(lines)
        for place in (uri, fasta)
    )
    assert ours == theirs
    assert sum(b"VRS_Allele_IDs=ga4gh:VA." in line for line in ours) == len(lines)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("seqrepo+ftp://localhost/seqrepo", "names no SeqRepo"),
        ("seqrepo+file://relative/path", r"seqrepo\+:../relative/path"),
        ("seqrepo+:", "names no SeqRepo"),
        ("seqrepo+:nowhere", "nowhere is not a SeqRepo"),
        ("seqrepo+file:///nowhere/at/all", "is not a SeqRepo"),
    ],
)
def test_what_is_no_seqrepo_is_refused_with_a_remedy(place: str, words: str) -> None:
    for refuse in (check, lambda uri: open_reference("GRCh38", uri)):
        with pytest.raises(ConfigurationError, match=words):
            refuse(place)


def test_an_assembly_that_the_seqrepo_lacks_is_named(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no sequence named T2T-CHM13:"):
        open_reference("T2T-CHM13", uri)


def test_a_damaged_seqrepo_is_refused_with_a_remedy(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(uri.removeprefix("seqrepo+file://"), folder)
    [sequences] = folder.glob("sequences/**/*.bgz")
    sequences.unlink()
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file.*seqrepo pull"):
        open_reference("GRCh38", f"seqrepo+file://{folder}").contig("chr1")
    (folder / "aliases.sqlite3").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"cannot be used.*seqrepo pull"):
        check(f"seqrepo+file://{folder}")


def test_without_its_package_the_extra_is_named(uri: str) -> None:
    code = (
        "import sys; sys.modules['biocommons.seqrepo'] = None\n"
        "from anyvar_step.__main__ import main\n"
        f"sys.argv = ['anyvar-step', 'reference', {uri!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 78, done.stderr
    assert "pip install 'anyvar-step[seqrepo]'" in done.stderr


def test_the_command_lists_a_seqrepo_as_it_does_a_fasta(uri: str) -> None:
    command = [sys.executable, "-m", "anyvar_step", "reference", uri]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = [f"{name}\t{len(text)}\t{accession_of(text)}\n" for name, text in SEQUENCES.items()]
    assert listed.stdout == "".join(rows)


def test_a_folder_may_be_named_as_vrs_python_takes_it(uri: str, tmp_path: Path, monkeypatch) -> None:
    folder = Path(uri.removeprefix("seqrepo+file://"))
    monkeypatch.chdir(tmp_path)
    for named in (f"seqrepo+:{folder}", f"seqrepo+:{os.path.relpath(folder)}", f"seqrepo+file:{folder}"):
        check(named)
        assert open_reference("GRCh38", named).contig("chr1").length == len(SEQUENCES["chr1"])


@pytest.fixture(scope="module")
def server(uri: str) -> Iterator[RestServer]:
    with served(Path(uri.removeprefix("seqrepo+file://"))) as running:
        yield running


class TestRestService(TestSeqRepo):
    """The same SeqRepo behind HTTP; it lists what was asked for only."""

    @pytest.fixture
    def reference(self, server: RestServer) -> Iterator[Reference]:
        opened = open_reference("GRCh38", f"seqrepo+{server.url}")
        yield opened
        opened.close()

    def test_contigs_come_in_the_order_of_the_file_with_their_accessions(self, reference: Reference) -> None:
        assert reference.contigs() == []
        assert [reference.contig(name) is None for name in ("1", *SEQUENCES, "absent")] == [False] * 5 + [
            True
        ]
        found = [(contig.name, contig.length, contig.accession) for contig in reference.contigs()]
        assert found == [(name, len(text), accession_of(text)) for name, text in SEQUENCES.items()]


def test_the_service_is_asked_for_blocks_over_one_connection(server: RestServer) -> None:
    reference = open_reference("GRCh38", f"seqrepo+{server.url}")
    server.requests.clear()
    connections = server.connections
    for name in ("chr1", "1"):
        contig = reference.contig(name)
        for start in range(0, contig.length - 10, 300):
            assert contig.fetch(start, start + 10) == SEQUENCES["chr1"][start : start + 10].upper().encode()
    assert sum("/sequence/" in request for request in server.requests) == 2  # 200,003 bases
    assert server.connections == connections
    reference.close()


def test_a_service_that_fails_is_asked_again_and_then_named(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seqrepo, "PAUSES", (0.0, 0.0))
    with closing(open_reference("GRCh38", f"seqrepo+{server.url}")) as reference:
        contig = reference.contig("chr1")
        server.failures[:] = [503, 429]
        assert contig.fetch(0, 4) == SEQUENCES["chr1"][:4].upper().encode()
    server.failures[:] = [503, 500, 502]
    with pytest.raises(Unavailable, match=f"the SeqRepo {server.url} answers 502"):
        open_reference("GRCh38", f"seqrepo+{server.url}")
    with pytest.raises(ConfigurationError, match="is not the REST service of a SeqRepo"):
        check(f"seqrepo+{server.url}/elsewhere")
    with pytest.raises(Unavailable, match=r"the SeqRepo http://user:\*\*\*@127.0.0.1:9 does not answer"):
        check("seqrepo+http://user:secret@127.0.0.1:9")


def test_records_get_the_same_ids_from_the_service(uri: str, server: RestServer) -> None:
    text = SEQUENCES["chr1"].upper()
    lines = [f"1\t{i + 1}\t.\t{text[i]}\t{text[i] * 2},T\t.\t.\t.".encode() for i in range(1, 199_000, 999)]
    found = []
    for place in (uri, f"seqrepo+{server.url}"):
        with closing(open_reference("GRCh38", place)) as reference:
            found.append(Annotator(reference, for_ref=True, attributes=True).annotate(lines))
    assert found[0] == found[1]


def test_a_table_of_aliases_leads_to_the_services_sequences(server: RestServer, tmp_path: Path) -> None:
    (tmp_path / "aliases.tsv").write_text("first\tchr1\nsecond\t2\n")
    place, table = f"seqrepo+{server.url}", tmp_path / "aliases.tsv"
    with closing(open_reference("GRCh38", place, aliases=table)) as reference:
        assert [reference.contig(name).name for name in ("first", "second")] == ["chr1", "2"]
        assert reference.contig("third") is None
