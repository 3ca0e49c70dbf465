"""A SeqRepo keeps the contract of references, and gives the accessions and bases that a FASTA would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engines import Annotator
from seqrepos import write_seqrepo
from support import ROOT
from test_reference_fasta import SEQUENCES, ReferenceContract, accession_of, write_fasta

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import Reference, check, for_assembly, open_reference


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
        ("seqrepo+https://localhost/seqrepo", "REST service is not used"),
        ("seqrepo+file://relative/path", "absolute path"),
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
