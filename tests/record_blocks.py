"""Blocks of records, mutated ones among them, on which the two VRS engines are compared."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyvar_step.vrs.engine import Annotated, Engine, RecordError

OPTIONS = [
    {"for_ref": for_ref, "attributes": attributes, "keep_alleles": keep_alleles, "existing": existing}
    for for_ref in (True, False)
    for attributes in (True, False)
    for keep_alleles in (True, False)
    for existing in ("replace", "keep", "error")
]

ODD_ALTS = (
    ".",
    "*",
    "<DEL>",
    "<NON_REF>",
    "<>",
    "C[chr2:321[",
    "]chr1:3]A",
    "T.",
    ".A",
    "..",
    "AP",
    "",
    "<",
    "U",
    "N",
)
ODD_CONTIGS = ("chrUn", "1", "chr 9", "\xe9", "END=3", "")
ODD_POSITIONS = (
    *("0", "007", "1", "30000", "30001", "4611686018427387904", "4611686018427387905"),
    *("9223372036854775807", "9223372036854775808", "9999999999999999999"),
)
REFUSED_POSITIONS = ("", "-1", "x", "10000000000000000000", "1_0", "1 ")
INFOS = (
    *(".", "", ";;", "DP=4", "DP=3;AC=1", "END=5", "CIEND=1", "SVLEN=-1;X", "VRS_Foo=1", "XVRS_Ends=1"),
    *("VRS_Allele_IDs=x;DP=1", "DP=1;VRS_Error", "VRS_Ends=2", "VRS_States=A;VRS_Starts=2"),
)
TAILS = ("", "\tGT\t0/1", "\t", "\tGT:VRS_Ends=1\tEND=2;<")
BYTES = b"\t,;=.<>[]*ACGTNacgtn0123456789VRS_\0\xff\r "


def genome(draw: random.Random, bases: int) -> str:
    """A sequence of repeats, gaps, chance, lower case and IUPAC codes."""
    pieces: list[str] = []
    while sum(map(len, pieces)) < bases:
        kind = draw.random()
        if kind < 0.35:
            unit = "".join(draw.choices("ACGT", k=draw.randint(1, 9)))
            pieces.append(unit * draw.randint(2, 40))
        elif kind < 0.4:
            pieces.append("N" * draw.randint(1, 30))
        elif kind < 0.45:
            pieces.append("acgtRYKMswbdhvnU"[: draw.randint(1, 16)])
        else:
            pieces.append("".join(draw.choices("ACGTacgt", k=draw.randint(1, 60))))
    return "".join(pieces)[:bases]


class Blocks:
    """Makes blocks of records over a FASTA that it writes to ``folder``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._draw = random.Random(seed)
        self._sequences = {
            "chr1": genome(self._draw, 30000),
            "chr2": "A" * 3000 + "ACAC" * 700 + "G",
            "chr3": "C",
            "chr4": genome(self._draw, 200),
        }
        self.fasta = folder / "engines.fa"
        self.fasta.write_text(
            "".join(
                f">{name} x\n" + "".join(bases[i : i + 61] + "\n" for i in range(0, len(bases), 61))
                for name, bases in self._sequences.items()
            )
        )

    def block(self) -> bytes:
        """Whole lines: in order or not, as they should be or with some bytes changed."""
        draw = self._draw
        lines = [self._record() for _ in range(draw.choice([1, 3, 40, 120]))]
        if draw.random() < 0.5:
            lines.sort(key=lambda line: (line.split(b"\t")[0], line.split(b"\t")[1].rjust(20)))
        if draw.random() < 0.6:
            share = 0.3 if len(lines) < 10 else 0.01
            lines = [self._mutated(line) if draw.random() < share else line for line in lines]
        return b"".join(line + b"\n" for line in lines)

    def _record(self) -> bytes:
        draw = self._draw
        chrom = draw.choice(list(self._sequences))
        bases = self._sequences[chrom]
        start = draw.randrange(len(bases))
        size = 1 if draw.random() < 0.6 else draw.randint(1, 8 if draw.random() < 0.8 else 120)
        ref = bases[start : start + size]
        if draw.random() < 0.05:
            ref = "".join(draw.choices("ACGTN" if draw.random() < 0.6 else "N", k=draw.randint(1, 60)))
        if draw.random() < 0.5:
            ref = ref.upper()
        number = 1 if draw.random() < 0.7 else draw.randint(1, 5)
        alts = ",".join(self._alt(bases, start, ref) for _ in range(number))
        if draw.random() < 0.03:
            alts = "."
        if draw.random() < 0.02:
            chrom = draw.choice(ODD_CONTIGS)
        info = draw.choice(INFOS) if draw.random() < 0.3 else "DP=9;AF=0.5"
        pos = str(start + 1)
        if draw.random() < 0.03:
            pos = draw.choice((*ODD_POSITIONS, str(len(bases)), str(len(bases) + 1)))
        if draw.random() < 0.0005:
            pos = draw.choice(REFUSED_POSITIONS)
        line = "\t".join([chrom, pos, ".", ref, alts, ".", "PASS", info]) + draw.choice(TAILS)
        return line.encode("latin-1")

    def _alt(self, bases: str, start: int, ref: str) -> str:
        draw = self._draw
        kind = draw.random()
        if kind < 0.3:
            return draw.choice("ACGTN")
        if kind < 0.4:
            return ref[: draw.randint(1, len(ref))]
        if kind < 0.55:
            return ref + bases[start + len(ref) : start + len(ref) + draw.randint(1, 13)]
        if kind < 0.6:
            return ref + ref[-draw.randint(1, len(ref)) :] * draw.randint(1, 40)
        if kind < 0.7:
            return ref[0] + "".join(
                draw.choices("ACGT", k=draw.randint(1, 150 if draw.random() < 0.1 else 9))
            )
        if kind < 0.8:
            return draw.choice((ref[::-1], ref, ref.lower()))
        return draw.choice(ODD_ALTS)

    def _mutated(self, line: bytes) -> bytes:
        draw, changed = self._draw, bytearray(line)
        for _ in range(draw.randint(1, 3)):
            place, kind = draw.randrange(len(changed)), draw.random()
            if kind < 0.5:
                changed[place] = draw.choice(BYTES)
            elif kind < 0.8:
                changed.insert(place, draw.choice(BYTES))
            elif len(changed) > 1:
                del changed[place]
        return bytes(changed)


def answer(engine: Engine, block: bytes) -> dict[str, Any]:
    """All that the engine tells of a block, its refusal too, as values that can be compared."""
    try:
        annotated = engine.annotate(block)
    except RecordError as refused:
        return {"refused": (refused.index, refused.reason, refused.remedy)}
    facts = {name: getattr(annotated, name) for name in Annotated.__slots__}
    for name in ("starts", "ends", "offsets"):
        facts[name] = list(facts[name])
    for name in ("columns", "kinds", "errors", "unknown"):
        facts[name] = list(facts[name].items())  # reports keep the order
    facts["digests"] = list(annotated.alleles.digests)
    facts["alleles"] = list(annotated.alleles)
    return facts


def differences(engines: Sequence[Engine], block: bytes) -> list[str]:
    """The facts of the block on which two engines do not agree."""
    mine, theirs = (answer(engine, block) for engine in engines)
    return [
        f"{name}: {mine.get(name)!r:.600} != {theirs.get(name)!r:.600}"
        for name in mine.keys() | theirs.keys()
        if mine.get(name) != theirs.get(name)
    ]
