//! Fully-justified normalization of VRS 2.0.1: the interval and state that name a change.
//!
//! All sequences are upper-case, all positions inter-residue.

use crate::fasta::{Fasta, Layout, ReadError, Window};
use std::ops::Range;

/// A ReferenceLengthExpression shows its sequence up to this length.
pub const SHOWN: u64 = 50;
/// Bases compared at once while rolling: first, and at most. Most variants roll over few.
const FIRST: u64 = 32;
const MOST: u64 = 1 << 16;

/// What kind of change REF→ALT is, or of thing an ALT without sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Snv,
    Mnv,
    Insertion,
    Deletion,
    Delins,
    SameAsRef,
    Symbolic,
    Breakend,
    Overlapping,
    Missing,
    Other,
}

impl Kind {
    pub const NAMES: [&'static str; 11] = [
        "snv",
        "mnv",
        "insertion",
        "deletion",
        "delins",
        "same_as_ref",
        "symbolic",
        "breakend",
        "overlapping",
        "missing",
        "other",
    ];
}

/// REF and ALT without what they share: bytes cut from their starts and from their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    pub prefix: usize,
    pub suffix: usize,
    pub kind: Kind,
}

/// Cut the common suffix, then the common prefix. Two equal sequences are left as they are.
///
/// Where one side becomes empty, prefix or suffix may be taken first: the interval moves within the repeat
/// that `justify` spans anyway.
#[inline]
pub fn trim(reference: &[u8], alternate: &[u8]) -> Trimmed {
    if reference == alternate {
        return Trimmed {
            prefix: 0,
            suffix: 0,
            kind: Kind::SameAsRef,
        };
    }
    let shorter = reference.len().min(alternate.len());
    let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
    let suffix = reference
        .iter()
        .rev()
        .zip(alternate.iter().rev())
        .take_while(same)
        .count();
    let left = shorter - suffix;
    let prefix = reference[..left]
        .iter()
        .zip(&alternate[..left])
        .take_while(same)
        .count();
    let kind = match (
        reference.len() - suffix - prefix,
        alternate.len() - suffix - prefix,
    ) {
        (0, _) => Kind::Insertion,
        (_, 0) => Kind::Deletion,
        (1, 1) => Kind::Snv,
        (r, a) if r == a => Kind::Mnv,
        _ => Kind::Delins,
    };
    Trimmed { prefix, suffix, kind }
}

/// The kind of an ALT that is no sequence (VCF 4.5 sections 1.6.1.5 and 5.4), in upper case.
pub fn kind_of_other(alternate: &[u8]) -> Kind {
    match alternate {
        b"." => Kind::Missing,
        b"*" => Kind::Overlapping,
        _ if alternate.iter().any(|&c| c == b'[' || c == b']') => Kind::Breakend,
        [b'<', .., b'>'] => Kind::Symbolic,
        [b'.', bases @ ..] | [bases @ .., b'.'] if is_nucleotides(bases) => Kind::Breakend,
        _ => Kind::Other,
    }
}

static NUCLEOTIDES: [bool; 256] = {
    let mut table = [false; 256];
    let codes = b"ACGTURYKMSWBDHVN";
    let mut i = 0;
    while i < codes.len() {
        table[codes[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether all of an upper-case text are IUPAC nucleotide codes, U included, and there is one at least.
#[inline]
pub fn is_nucleotides(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&code| NUCLEOTIDES[usize::from(code)])
}

/// A sequence of the reference, and what reads it.
pub struct Bases<'a> {
    pub fasta: &'a Fasta,
    pub layout: &'a Layout,
    pub window: &'a mut Window,
    /// Space for what is fetched.
    pub space: &'a mut Vec<u8>,
}

/// An insertion or deletion, justified: [start, end), and how many bases it rolled to the left.
#[derive(Debug)]
pub struct Justified {
    pub start: u64,
    pub end: u64,
    pub left: u64,
}

impl Bases<'_> {
    /// The upper-case bases of [start, end), cut off at the end of the sequence, in `space`.
    pub fn fetch(&mut self, start: u64, end: u64) -> Result<&[u8], ReadError> {
        let end = end.min(self.layout.length);
        self.space.clear();
        self.window
            .fetch(self.fasta, self.layout, start, end, self.space)?;
        Ok(self.space)
    }

    /// Roll the insertion or deletion of `seed` at [start, end) to both sides as far as the reference repeats
    /// it. The expanded sequence is the seed going round, from its base -`left` on.
    pub fn justify(&mut self, seed: &[u8], start: u64, end: u64) -> Result<Justified, ReadError> {
        let left = self.roll_left(seed, start)?;
        let right = self.roll_right(seed, end)?;
        Ok(Justified {
            start: start - left,
            end: end + right,
            left,
        })
    }

    /// How many bases before `position` are the seed going round backwards.
    fn roll_left(&mut self, seed: &[u8], position: u64) -> Result<u64, ReadError> {
        let (mut done, mut step, mut phase) = (0, FIRST, seed.len());
        loop {
            let found = self.fetch((position - done).saturating_sub(step), position - done)?;
            for &base in found.iter().rev() {
                phase = if phase == 0 { seed.len() } else { phase } - 1;
                if base != seed[phase] {
                    return Ok(done);
                }
                done += 1;
            }
            if (found.len() as u64) < step {
                return Ok(done);
            }
            step = (4 * step).min(MOST);
        }
    }

    /// How many bases from `position` on are the seed going round.
    fn roll_right(&mut self, seed: &[u8], position: u64) -> Result<u64, ReadError> {
        let (mut done, mut step, mut phase) = (0, FIRST, 0);
        loop {
            let found = self.fetch(position + done, position + done + step)?;
            for &base in found {
                if base != seed[phase] {
                    return Ok(done);
                }
                phase = if phase + 1 == seed.len() { 0 } else { phase + 1 };
                done += 1;
            }
            if (found.len() as u64) < step {
                return Ok(done);
            }
            step = (4 * step).min(MOST);
        }
    }
}

/// The repeat subunit length of an insertion: the longest divisor of the seed that the reference's last bases
/// repeat; None = a literal.
///
/// Those last bases are the seed going round, so they repeat through the insertion just if the seed itself is
/// a repeat of that length; it cannot be longer than the expanded reference, which has `rolled` bases.
pub fn subunit(seed: &[u8], rolled: u64) -> Option<u64> {
    let size = seed.len();
    if size as u64 <= rolled {
        return Some(size as u64);
    }
    let longest = rolled as usize;
    let divisors = (1..)
        .take_while(|i| i * i <= size)
        .filter(|i| size.is_multiple_of(*i));
    let repeats = |unit: usize| seed[unit..] == seed[..size - unit];
    let mut best = None;
    // Each divisor below the root, and the one above it that it belongs to.
    for small in divisors {
        for unit in [small, size / small] {
            if unit <= longest && best.is_none_or(|found| found < unit) && repeats(unit) {
                best = Some(unit);
            }
        }
    }
    best.map(|unit| unit as u64)
}

/// Append `length` bases of the seed, a part of `sequences` itself, that goes round without end in both
/// directions: from `back` bases before its start on.
pub fn extend_around(sequences: &mut Vec<u8>, seed: Range<usize>, back: u64, length: u64) {
    let size = seed.len();
    let mut at = (size - (back % size as u64) as usize) % size;
    let mut left = length as usize;
    while left > 0 {
        let count = left.min(size - at);
        sequences.extend_from_within(seed.start + at..seed.start + at + count);
        left -= count;
        at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_cut_from_the_end_first() {
        for (reference, alternate, prefix, suffix, kind) in [
            ("A", "C", 0, 0, Kind::Snv),
            ("A", "A", 0, 0, Kind::SameAsRef),
            ("AC", "GT", 0, 0, Kind::Mnv),
            ("CAA", "CA", 1, 1, Kind::Deletion),
            ("CA", "CAA", 1, 1, Kind::Insertion),
            ("CTA", "CGGA", 1, 1, Kind::Delins),
            ("GATC", "GAGC", 2, 1, Kind::Snv),
            ("AAA", "A", 0, 1, Kind::Deletion),
        ] {
            let found = trim(reference.as_bytes(), alternate.as_bytes());
            assert_eq!(found, Trimmed { prefix, suffix, kind }, "{reference} {alternate}");
        }
    }

    #[test]
    fn what_is_no_sequence_has_its_kind() {
        for (text, kind) in [
            (".", Kind::Missing),
            ("*", Kind::Overlapping),
            ("C[CHR2:321[", Kind::Breakend),
            ("<DEL>", Kind::Symbolic),
            ("<", Kind::Other),
            ("<>", Kind::Symbolic),
            ("T.", Kind::Breakend),
            (".AG", Kind::Breakend),
            ("..", Kind::Other),
            ("", Kind::Other),
            ("AP", Kind::Other),
        ] {
            assert_eq!(kind_of_other(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn a_subunit_is_the_longest_divisor_that_repeats() {
        assert_eq!(subunit(b"CA", 2), Some(2));
        assert_eq!(subunit(b"CACA", 3), Some(2));
        assert_eq!(subunit(b"AAAAAA", 5), Some(3));
        assert_eq!(subunit(b"AAAAAA", 1), Some(1));
        assert_eq!(subunit(b"CAGT", 3), None);
        assert_eq!(subunit(b"CAGT", 0), None);
    }

    #[test]
    fn a_seed_goes_round_in_both_directions() {
        let mut found = b"xCAG".to_vec();
        extend_around(&mut found, 1..4, 4, 9);
        assert_eq!(found, b"xCAGGCAGCAGCA");
    }
}
