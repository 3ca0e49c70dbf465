//! One record line: its columns, the VRS fields that it has already, and the text of VRS_Error.

use memchr::{memchr, memchr_iter};

/// Digits of the largest 64-bit position; a POS of more is no position.
pub const DIGITS: usize = 19;
/// Bases of a sequence that a message shows.
const QUOTED: usize = 50;
/// What all VRS fields begin with.
pub const PREFIX: &[u8] = b"VRS_";
/// The names of the VRS fields: identifiers, attributes, error.
pub const IDS: &[u8] = b"VRS_Allele_IDs";
pub const ATTRIBUTES: [&[u8]; 5] = [
    b"VRS_Starts",
    b"VRS_Ends",
    b"VRS_States",
    b"VRS_Lengths",
    b"VRS_RepeatSubunitLengths",
];
pub const ERROR: &[u8] = b"VRS_Error";

/// A line's columns up to INFO, as offsets of a block.
#[derive(Debug)]
pub struct Line {
    pub start: usize,
    /// Of the line end.
    pub end: usize,
    /// How many tab-separated columns the line has.
    pub columns: usize,
    /// Of the tabs behind the first eight columns; the last one may be the line end.
    tabs: [usize; 8],
}

/// Bytes whose tabs and line ends are found at once.
const CHUNK: usize = 64;

/// Where a chunk has tabs, and where it has line ends: one bit a byte, the first byte the lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
fn marks(chunk: &[u8; CHUNK]) -> (u64, u64) {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let (mut tabs, mut ends) = (0, 0);
    for (part, bytes) in chunk.as_chunks::<16>().0.iter().enumerate() {
        let number = i128::from_le_bytes(*bytes);
        // SAFETY: SSE2 is part of x86-64.
        let (tab, end) = unsafe {
            let bytes = _mm_set_epi64x((number >> 64) as i64, number as i64);
            let equal = |byte: u8| _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8)));
            (equal(b'\t'), equal(b'\n'))
        };
        tabs |= (tab as u64) << (16 * part);
        ends |= (end as u64) << (16 * part);
    }
    (tabs, ends)
}

#[cfg(not(target_arch = "x86_64"))]
fn marks(chunk: &[u8; CHUNK]) -> (u64, u64) {
    let (mut tabs, mut ends) = (0, 0);
    for (place, &byte) in chunk.iter().enumerate() {
        tabs |= u64::from(byte == b'\t') << place;
        ends |= u64::from(byte == b'\n') << place;
    }
    (tabs, ends)
}

impl Line {
    /// The line at `start`; its number of columns where that is fewer than eight.
    #[inline]
    pub fn split(block: &[u8], start: usize) -> Result<Self, usize> {
        let mut tabs = [0; 8];
        let mut count = 0;
        let mut at = start;
        loop {
            let mut last = [0; CHUNK];
            let chunk = block[at..].first_chunk().unwrap_or_else(|| {
                last[..block.len() - at].copy_from_slice(&block[at..]);
                &last
            });
            let (mut tab, ends) = marks(chunk);
            if ends != 0 {
                tab &= (ends & ends.wrapping_neg()) - 1; // those before the line end
            }
            while count < 8 && tab != 0 {
                tabs[count] = at + tab.trailing_zeros() as usize;
                count += 1;
                tab &= tab - 1;
            }
            if ends != 0 {
                let end = at + ends.trailing_zeros() as usize;
                if count < 7 {
                    return Err(count + 1);
                }
                let columns = count + 1 + tab.count_ones() as usize;
                if count == 7 {
                    tabs[7] = end;
                }
                return Ok(Self {
                    start,
                    end,
                    columns,
                    tabs,
                });
            }
            if count == 8 {
                break;
            }
            at += CHUNK;
            assert!(at < block.len(), "a block ends with a line end");
        }
        // The rest has as many columns as there are samples.
        let from = tabs[7];
        let end = from + memchr(b'\n', &block[from..]).expect("a block ends with a line end");
        let columns = 8 + memchr_iter(b'\t', &block[from..end]).count();
        Ok(Self {
            start,
            end,
            columns,
            tabs,
        })
    }

    pub fn chrom<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.start..self.tabs[0]]
    }

    pub fn pos<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.tabs[0] + 1..self.tabs[1]]
    }

    pub fn reference<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.tabs[2] + 1..self.tabs[3]]
    }

    pub fn alternates<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.tabs[3] + 1..self.tabs[4]]
    }

    /// Where INFO begins and ends.
    pub fn info(&self) -> std::ops::Range<usize> {
        self.tabs[6] + 1..self.tabs[7]
    }
}

/// POS as a number; None where it is none.
#[inline]
pub fn position(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > DIGITS {
        return None;
    }
    text.iter().try_fold(0, |number: u64, &digit| match digit {
        b'0'..=b'9' => Some(10 * number + u64::from(digit - b'0')),
        _ => None,
    })
}

/// INFO without the fields of an earlier annotation, `.` where nothing else is in it; None where it has none.
pub fn without_ours(info: &[u8]) -> Option<Vec<u8>> {
    let ours = |item: &[u8]| {
        let name = item.split(|&c| c == b'=').next().unwrap_or(item);
        name.starts_with(PREFIX) && (name == IDS || name == ERROR || ATTRIBUTES.contains(&name))
    };
    let items = || info.split(|&c| c == b';');
    if !items().any(ours) {
        return None;
    }
    let others: Vec<&[u8]> = items().filter(|item| !ours(item)).collect();
    let left = others.join(&b';');
    Some(if left.is_empty() { b".".to_vec() } else { left })
}

/// A REF that is not what the reference has there.
pub struct Mismatch<'a> {
    pub assembly: &'a [u8],
    pub chrom: &'a [u8],
    pub pos: u64,
    /// Both in upper case; `found` is shorter where the record goes beyond the sequence.
    pub reference: &'a [u8],
    pub found: &'a [u8],
}

impl Mismatch<'_> {
    pub fn cause(&self) -> &'static str {
        if self.found.len() < self.reference.len() {
            "position"
        } else if self.reference.iter().all(|&base| base == b'N') {
            "ref_n"
        } else {
            "ref_mismatch"
        }
    }

    /// The record in short, for reports.
    pub fn example(&self) -> Vec<u8> {
        let found = quoted(self.found);
        let found = if found.is_empty() { b"(none)" } else { found };
        let pos = self.pos.to_string();
        [
            self.chrom,
            b":",
            pos.as_bytes(),
            b" REF ",
            quoted(self.reference),
            b", reference ",
            found,
        ]
        .concat()
    }

    /// The value of VRS_Error, in AnyVar's words but for sequences of more than 50 bases.
    pub fn message(&self) -> Vec<u8> {
        let start = i128::from(self.pos) - 1;
        let end = start + self.reference.len() as i128;
        let places = format!(" position {start}-{end} (input gave '");
        let parts: [&[u8]; 9] = [
            b"Reference mismatch at ",
            self.assembly,
            b":",
            self.chrom,
            places.as_bytes(),
            quoted(self.reference),
            b"' but correct ref is '",
            quoted(self.found),
            b"')",
        ];
        escaped(&parts.concat())
    }
}

fn quoted(sequence: &[u8]) -> &[u8] {
    &sequence[..sequence.len().min(QUOTED)]
}

/// A message as a legal INFO value of VCF 4.2: percent-encoded, but for letters, digits and `_.-~()':/`.
fn escaped(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(2 * message.len());
    for &byte in message {
        if byte.is_ascii_alphanumeric() || b"_.-~()':/".contains(&byte) {
            text.push(byte);
        } else {
            let digit = |number: u8| b"0123456789ABCDEF"[usize::from(number)];
            text.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_eight_tabs() {
        let block = b"x\n1\t2\t3\t4\t5\t6\t7\t8\tGT\t0/1\n1\t2\t3\t4\t5\t6\t7\t\n1\t2\t3\n";
        let line = Line::split(block, 2).unwrap();
        assert_eq!((line.chrom(block), line.pos(block)), (&b"1"[..], &b"2"[..]));
        assert_eq!(
            (line.reference(block), line.alternates(block)),
            (&b"4"[..], &b"5"[..])
        );
        assert_eq!(&block[line.info()], b"8");
        assert_eq!(&block[line.info().end..line.end], b"\tGT\t0/1");
        assert_eq!(line.columns, 10);
        let second = Line::split(block, line.end + 1).unwrap();
        assert_eq!(&block[second.info()], b"");
        assert_eq!(Line::split(block, second.end + 1).unwrap_err(), 3);
    }

    #[test]
    fn lines_of_all_lengths_are_split_as_bytes_are() {
        for width in 0..40 {
            for columns in [1, 6, 7, 8, 9, 10, 70] {
                let line = vec!["x".repeat(width); columns].join("\t");
                let block = format!("y\n{line}\nz\tz\n");
                let found = Line::split(block.as_bytes(), 2);
                if columns < 8 {
                    assert_eq!(found.unwrap_err(), columns);
                    continue;
                }
                let found = found.unwrap();
                assert_eq!((found.end, found.columns), (2 + line.len(), columns));
                assert_eq!(found.info(), 2 + 7 * (width + 1)..2 + 8 * (width + 1) - 1);
            }
        }
    }

    #[test]
    fn a_position_has_up_to_nineteen_digits() {
        assert_eq!(position(b"0012"), Some(12));
        assert_eq!(position(b"9999999999999999999"), Some(9_999_999_999_999_999_999));
        for text in [&b""[..], b"-1", b"1_0", b" 1", b"10000000000000000000", b"1e3"] {
            assert_eq!(position(text), None);
        }
    }

    #[test]
    fn earlier_fields_are_found_by_their_whole_names() {
        assert_eq!(
            without_ours(b"DP=1;VRS_Allele_IDs=a;AC=2;VRS_Error").unwrap(),
            b"DP=1;AC=2"
        );
        assert_eq!(without_ours(b"VRS_Ends=1").unwrap(), b".");
        assert_eq!(without_ours(b"VRS_Other=1;XVRS_Ends=1"), None);
    }

    #[test]
    fn a_message_is_percent_encoded() {
        let mismatch = Mismatch {
            assembly: b"GRCh38",
            chrom: b"chr 1",
            pos: 0,
            reference: b"NN",
            found: b"",
        };
        assert_eq!(mismatch.cause(), "position");
        assert_eq!(mismatch.example(), b"chr 1:0 REF NN, reference (none)");
        assert_eq!(
            String::from_utf8(mismatch.message()).unwrap(),
            "Reference%20mismatch%20at%20GRCh38:chr%201%20position%20-1-1%20(input%20gave%20'NN'%20but%20\
             correct%20ref%20is%20'')"
        );
    }
}
