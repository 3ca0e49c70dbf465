//! Blocks of record lines in, the same lines with VRS fields out, and the facts about them.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use memchr::memmem;

use crate::digest::{ALLELE_PREFIX, Batch, Decimal, Middle, State, WIDTH};
use crate::fasta::{Fasta, Layout, ReadError, Window};
use crate::normalize::{
    Bases, Justified, Kind, SHOWN, extend_around, is_nucleotides, kind_of_other, subunit, trim,
};
use crate::record::{ATTRIBUTES, ERROR, IDS, Line, Mismatch, PREFIX, position, without_ours};
use crate::sha512::{Digest, Lanes};

/// Examples of records with VRS_Error that a block has for each cause, at most.
const EXAMPLES: usize = 5;
/// Positions from which on a record has no place that an index could hold.
const FAR: u64 = 1 << 62;

/// What becomes of VRS fields that a record has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Replace,
    Keep,
    Error,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub for_ref: bool,
    pub attributes: bool,
    pub keep_alleles: bool,
    pub existing: Existing,
}

/// A sequence of the reference that the VCF names.
pub struct Contig {
    pub accession: String,
    pub middle: Middle,
    pub layout: Layout,
}

/// Why a block cannot be annotated; `E` is an error of what looks contigs up.
#[derive(Debug)]
pub enum Failure<E> {
    /// The record of this number in the block: a code, and the raw text that the refusal quotes.
    Refused(usize, &'static str, Vec<u8>),
    /// The reference cannot be read.
    Reference(ReadError),
    Lookup(E),
}

impl<E> From<ReadError> for Failure<E> {
    fn from(error: ReadError) -> Self {
        Self::Reference(error)
    }
}

/// The alleles of a block for stores, in the order of the records; empty unless they are to be kept.
#[derive(Default)]
pub struct Kept {
    pub alleles: Vec<Digest>,
    pub locations: Vec<Digest>,
    /// Index of each allele's location.
    pub places_of: Vec<i64>,
    /// Three numbers a location: index in `accessions`, start, end.
    pub places: Vec<i64>,
    pub accessions: Vec<String>,
    /// Four numbers an allele: offset and length of its sequence in `sequences` (-1 = not shown), then length
    /// and repeat subunit length (-1 = a literal).
    pub states: Vec<i64>,
    pub sequences: Vec<u8>,
}

/// The facts about one block.
#[derive(Default)]
pub struct Annotated {
    pub text: Vec<u8>,
    pub records: usize,
    pub ids: usize,
    pub kept: usize,
    /// Records by their number of tab-separated columns, in the order in which the numbers were met first.
    pub columns: Vec<(usize, usize)>,
    /// ALT alleles by kind, in the order in which the kinds were met; so are the causes of errors.
    pub kinds: Tally,
    pub errors: Tally,
    pub examples: Vec<(&'static str, Vec<u8>)>,
    /// Records on contigs that the reference lacks; a name may come again.
    pub unknown: Vec<(Range<usize>, usize)>,
    /// Consecutive records of one contig, whose name this is in the block that was given.
    pub runs: Vec<(Range<usize>, usize)>,
    pub starts: Vec<i64>,
    pub ends: Vec<i64>,
    pub offsets: Vec<i64>,
    pub plain: bool,
    pub alleles: Kept,
}

/// Annotates blocks, from several threads at once.
pub struct Engine {
    fasta: Fasta,
    assembly: Vec<u8>,
    options: Options,
    lanes: Lanes,
    /// By the name that the VCF has; None = the reference lacks it.
    contigs: RwLock<HashMap<Vec<u8>, Option<Arc<Contig>>>>,
    /// What the threads that are not at work leave behind.
    idle: Mutex<Vec<Worker>>,
}

/// The memory that one thread annotates with.
struct Worker {
    window: Window,
    batch: Batch,
    record: Scratch,
}

/// The memory that one record is annotated with.
#[derive(Default)]
struct Scratch {
    /// REF and ALT in upper case, then what states are made of.
    sequences: Vec<u8>,
    /// Bases of the reference.
    space: Vec<u8>,
    changes: Vec<Change>,
    /// None = missing; so with `texts`.
    values: Vec<Option<Value>>,
    texts: Vec<Option<Texts>>,
}

/// REF→ALT of an allele that gets a value, as ranges of `Scratch::sequences`, trimmed.
#[derive(Clone)]
enum Change {
    /// No sequence: its value is missing.
    Missing,
    Sequence {
        skipped: u64,
        kind: Kind,
        reference: Range<usize>,
        alternate: Range<usize>,
    },
}

/// An allele, normalized.
struct Value {
    start: u64,
    end: u64,
    /// Its sequence in `Scratch::sequences`; None = not shown.
    sequence: Option<Range<usize>>,
    /// Length and repeat subunit length of a ReferenceLengthExpression; None = a literal.
    repeat: Option<(u64, u64)>,
}

/// The numbers of an allele as text; `at` are its start and end.
struct Texts {
    at: (u64, u64),
    interval: (Decimal, Decimal),
    repeat: Option<(Decimal, Decimal)>,
}

impl Engine {
    pub fn new(fasta: Fasta, assembly: Vec<u8>, options: Options, lanes: Lanes) -> Self {
        Self {
            fasta,
            assembly,
            options,
            lanes,
            contigs: RwLock::default(),
            idle: Mutex::default(),
        }
    }

    pub fn fasta(&self) -> &Fasta {
        &self.fasta
    }

    /// Annotate whole lines, each ended by a newline. `lookup` finds a contig by its name in the VCF, once
    /// for each name but where threads meet.
    pub fn annotate<E>(
        &self,
        block: &[u8],
        lookup: impl Fn(&[u8]) -> Result<Option<Contig>, E>,
    ) -> Result<Annotated, Failure<E>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let last = idle().pop();
        let mut worker = last.unwrap_or_else(|| Worker {
            window: Window::default(),
            batch: Batch::new(self.lanes, self.options.keep_alleles),
            record: Scratch::default(),
        });
        worker.batch.clear();
        let mut work = Block {
            engine: self,
            block,
            has_ours: memmem::find(block, PREFIX).is_some(),
            has_ends: memmem::find(block, b"END=").is_some() || memmem::find(block, b"SVLEN=").is_some(),
            worker: &mut worker,
            facts: Annotated {
                text: Vec::with_capacity(2 * block.len() + 1024),
                plain: true,
                ..Annotated::default()
            },
            last_location: None,
            locations_before: 0,
        };
        work.annotate(&lookup)?;
        let mut facts = work.facts;
        let batch = &mut worker.batch;
        batch.flush(&mut facts.text, true);
        facts.ids = batch.alleles();
        facts.alleles.alleles = std::mem::take(&mut batch.allele_digests);
        facts.alleles.locations = std::mem::take(&mut batch.location_digests);
        if !facts.plain {
            for numbers in [&mut facts.starts, &mut facts.ends, &mut facts.offsets] {
                numbers.clear();
            }
        }
        idle().push(worker);
        Ok(facts)
    }

    fn contig<E>(
        &self,
        name: &[u8],
        lookup: &impl Fn(&[u8]) -> Result<Option<Contig>, E>,
    ) -> Result<Option<Arc<Contig>>, Failure<E>> {
        let known = self
            .contigs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // No lock is held here: the lookup may wait for a thread that wants one.
        let found = lookup(name).map_err(Failure::Lookup)?.map(Arc::new);
        let mut contigs = self.contigs.write().unwrap_or_else(PoisonError::into_inner);
        contigs.insert(name.to_vec(), found.clone());
        Ok(found)
    }
}

/// What `work` returns; where it panics, the reason.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Nothing that `work` was changing is used again: an engine drops the memory of a thread that panicked.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked")
            .to_owned()
    })
}

/// One block at work.
struct Block<'a> {
    engine: &'a Engine,
    block: &'a [u8],
    /// Whether the block has anything that looks like a VRS field, or like an end in INFO.
    has_ours: bool,
    has_ends: bool,
    worker: &'a mut Worker,
    facts: Annotated,
    /// The location added last: start, end, and its number among those that wait.
    last_location: Option<(u64, u64, usize)>,
    /// Locations of the block that were digested already.
    locations_before: usize,
}

impl Block<'_> {
    fn annotate<E>(
        &mut self,
        lookup: &impl Fn(&[u8]) -> Result<Option<Contig>, E>,
    ) -> Result<(), Failure<E>> {
        let mut at = 0;
        let mut chrom = 0..0;
        let mut contig = None;
        let mut before = 0;
        while at < self.block.len() {
            let index = self.facts.records;
            let line = Line::split(self.block, at).map_err(|columns| match self.block[at] {
                b'\n' => Failure::Refused(index, "empty", Vec::new()),
                _ => Failure::Refused(index, "columns", columns.to_string().into_bytes()),
            })?;
            let name = line.chrom(self.block);
            let pos = position(line.pos(self.block))
                .ok_or_else(|| Failure::Refused(index, "position", line.pos(self.block).to_vec()))?;
            if index == 0 || *name != self.block[chrom.clone()] {
                contig = self.engine.contig(name, lookup)?;
                chrom = line.start..line.start + name.len();
                self.facts.runs.push((chrom.clone(), 0));
                self.last_location = None;
                before = 0;
                if let (true, Some(contig)) = (self.engine.options.keep_alleles, &contig) {
                    self.facts.alleles.accessions.push(contig.accession.clone());
                }
            }
            self.facts.runs.last_mut().expect("pushed").1 += 1;
            let columns = line.columns;
            match self.facts.columns.iter_mut().find(|count| count.0 == columns) {
                Some(count) => count.1 += 1,
                None => self.facts.columns.push((columns, 1)),
            }
            self.place(&line, pos, before);
            before = pos;
            self.record(&line, pos, contig.as_deref())?;
            self.facts.records += 1;
            if self.worker.batch.is_full() {
                self.locations_before += self.worker.batch.flush(&mut self.facts.text, false);
                self.last_location = None;
            }
            at = line.end + 1;
        }
        Ok(())
    }

    /// Note where the record lies, for an index.
    #[inline]
    fn place(&mut self, line: &Line, pos: u64, before: u64) {
        let facts = &mut self.facts;
        if !facts.plain {
            return;
        }
        let info = || &self.block[line.info()];
        let ends_elsewhere = self.has_ends
            && (memmem::find(info(), b"END=").is_some() || memmem::find(info(), b"SVLEN=").is_some());
        if pos == 0
            || pos > FAR
            || pos < before
            || ends_elsewhere
            || line.alternates(self.block).contains(&b'<')
        {
            facts.plain = false;
            return;
        }
        let start = pos as i64 - 1;
        facts.starts.push(start);
        facts.ends.push(start + line.reference(self.block).len() as i64);
        facts.offsets.push(facts.text.len() as i64);
    }

    /// Annotate one record.
    #[inline]
    fn record<E>(&mut self, line: &Line, pos: u64, contig: Option<&Contig>) -> Result<(), Failure<E>> {
        let options = self.engine.options;
        let info = &self.block[line.info()];
        let mut others = None;
        if self.has_ours && memmem::find(info, PREFIX).is_some() {
            others = without_ours(info);
        }
        if others.is_some() {
            match options.existing {
                Existing::Replace => {}
                Existing::Error => {
                    return Err(Failure::Refused(self.facts.records, "existing", Vec::new()));
                }
                Existing::Keep => {
                    self.facts.kept += 1;
                    self.facts
                        .text
                        .extend_from_slice(&self.block[line.start..=line.end]);
                    return Ok(());
                }
            }
        }
        let text = &mut self.facts.text;
        match &others {
            None if info != b"." => text.extend_from_slice(&self.block[line.start..line.info().end]),
            _ => text.extend_from_slice(&self.block[line.start..line.info().start]),
        }
        if let Some(others) = others.as_deref().filter(|others| *others != b".") {
            text.extend_from_slice(others);
        }
        let others = others.as_deref().unwrap_or(info);
        let before = text.len();
        if !others.is_empty() && others != b"." && !others.ends_with(b";") {
            text.push(b';');
        }
        if contig.is_none() {
            match self.facts.unknown.last_mut() {
                Some((name, count)) if self.block[name.clone()] == *line.chrom(self.block) => *count += 1,
                _ => self
                    .facts
                    .unknown
                    .push((line.start..line.start + line.chrom(self.block).len(), 1)),
            }
        }
        if !self.fields(line, pos, contig)? {
            let text = &mut self.facts.text;
            text.truncate(before);
            if others == b"." {
                text.push(b'.');
            }
        }
        self.facts
            .text
            .extend_from_slice(&self.block[line.info().end..=line.end]);
        Ok(())
    }

    /// Write the record's VRS fields: whether there are any.
    ///
    /// An allele that has no sequence gets `.`, and ALT `.` by itself is no allele at all. Where the reference
    /// lacks the contig all alleles get `.`. Where REF is not what the reference has there, VRS_Error is the
    /// only field.
    fn fields<E>(&mut self, line: &Line, pos: u64, contig: Option<&Contig>) -> Result<bool, Failure<E>> {
        let reference = self.read_changes(line);
        let Worker { window, record, .. } = &mut *self.worker;
        if record.changes.is_empty() {
            return Ok(false);
        }
        let contig = match contig {
            Some(contig)
                if record
                    .changes
                    .iter()
                    .any(|change| !matches!(change, Change::Missing)) =>
            {
                contig
            }
            _ => {
                record.values.clear();
                record.values.resize_with(record.changes.len(), || None);
                self.write_fields(None);
                return Ok(true);
            }
        };
        let start = pos.wrapping_sub(1); // beyond any sequence for POS 0
        let Scratch { sequences, space, .. } = record;
        let mut bases = Bases {
            fasta: &self.engine.fasta,
            layout: &contig.layout,
            window,
            space,
        };
        let found = match pos {
            0 => &[],
            _ => bases.fetch(start, start.saturating_add(reference as u64))?,
        };
        if *found != sequences[..reference] {
            let mismatch = Mismatch {
                assembly: &self.engine.assembly,
                chrom: line.chrom(self.block),
                pos,
                reference: &sequences[..reference],
                found,
            };
            let cause = mismatch.cause();
            self.facts.errors.count(cause);
            if self
                .facts
                .examples
                .iter()
                .filter(|example| example.0 == cause)
                .count()
                < EXAMPLES
            {
                self.facts.examples.push((cause, mismatch.example()));
            }
            for part in [ERROR, b"=", &mismatch.message()] {
                self.facts.text.extend_from_slice(part);
            }
            return Ok(true);
        }
        record.values.clear();
        self.normalize(contig, start)?;
        self.write_fields(Some(contig));
        Ok(true)
    }

    /// Put what `trim` leaves of each allele that gets a value into `changes`, and count the kinds of ALT;
    /// the number of bases of REF.
    fn read_changes(&mut self, line: &Line) -> usize {
        let Scratch {
            sequences, changes, ..
        } = &mut self.worker.record;
        sequences.clear();
        changes.clear();
        sequences.extend_from_slice(line.reference(self.block));
        let reference = sequences.len();
        sequences.extend_from_slice(line.alternates(self.block));
        sequences.make_ascii_uppercase();
        let readable = is_nucleotides(&sequences[..reference]);
        if self.engine.options.for_ref {
            changes.push(if readable {
                let whole = 0..reference;
                Change::Sequence {
                    skipped: 0,
                    kind: Kind::SameAsRef,
                    reference: whole.clone(),
                    alternate: whole,
                }
            } else {
                Change::Missing
            });
        }
        let alone = sequences[reference..] == *b".";
        let mut from = reference;
        for alternate in sequences[reference..].split(|&c| c == b',') {
            let to = from + alternate.len();
            let kind = if readable && is_nucleotides(alternate) {
                let trimmed = trim(&sequences[..reference], alternate);
                changes.push(Change::Sequence {
                    skipped: trimmed.prefix as u64,
                    kind: trimmed.kind,
                    reference: trimmed.prefix..reference - trimmed.suffix,
                    alternate: from + trimmed.prefix..to - trimmed.suffix,
                });
                trimmed.kind
            } else {
                if !alone {
                    changes.push(Change::Missing);
                }
                kind_of_other(alternate)
            };
            self.facts.kinds.count(Kind::NAMES[kind as usize]);
            from = to + 1;
        }
        reference
    }

    /// Work out the alleles of a record whose REF agrees with the reference at `start`.
    fn normalize(&mut self, contig: &Contig, start: u64) -> Result<(), ReadError> {
        let Worker { window, record, .. } = &mut *self.worker;
        let Scratch {
            sequences,
            space,
            changes,
            values,
            ..
        } = record;
        let mut bases = Bases {
            fasta: &self.engine.fasta,
            layout: &contig.layout,
            window,
            space,
        };
        for change in changes.iter() {
            let Change::Sequence {
                skipped,
                kind,
                reference,
                alternate,
            } = change
            else {
                values.push(None);
                continue;
            };
            let first = start + skipped;
            let last = first + reference.len() as u64;
            values.push(Some(match kind {
                Kind::SameAsRef => {
                    let length = reference.len() as u64;
                    let sequence = (length <= SHOWN).then(|| reference.clone());
                    Value {
                        start: first,
                        end: last,
                        sequence,
                        repeat: Some((length, length)),
                    }
                }
                Kind::Insertion | Kind::Deletion => {
                    let seed = if reference.is_empty() {
                        alternate
                    } else {
                        reference
                    };
                    let size = seed.len() as u64;
                    let Justified { start, end, left } =
                        bases.justify(&sequences[seed.clone()], first, last)?;
                    // The reference repeats the seed on both sides, so the sequence is the seed going round.
                    let rolled = end - start - reference.len() as u64;
                    let (length, unit) = match kind {
                        Kind::Deletion => (rolled, Some(size)),
                        _ => (rolled + size, subunit(&sequences[seed.clone()], rolled)),
                    };
                    let from = sequences.len();
                    let shown = unit.is_none() || length <= SHOWN;
                    if shown {
                        extend_around(sequences, seed.clone(), left, length);
                    }
                    let sequence = shown.then_some(from..sequences.len());
                    Value {
                        start,
                        end,
                        sequence,
                        repeat: unit.map(|unit| (length, unit)),
                    }
                }
                _ => Value {
                    start: first,
                    end: last,
                    sequence: Some(alternate.clone()),
                    repeat: None,
                },
            }));
        }
        Ok(())
    }

    /// Write the fields of `values`, None having none; `contig` may be None where all are so.
    fn write_fields(&mut self, contig: Option<&Contig>) {
        let Worker {
            batch,
            record:
                Scratch {
                    sequences,
                    values,
                    texts,
                    ..
                },
            ..
        } = &mut *self.worker;
        let text = &mut self.facts.text;
        texts.clear();
        text.extend_from_slice(IDS);
        let mut separator = b'=';
        for value in values.iter() {
            text.push(separator);
            separator = b',';
            let (Some(value), Some(contig)) = (value, contig) else {
                text.push(b'.');
                texts.push(None);
                continue;
            };
            let interval = match texts.last() {
                Some(Some(last)) if (last.at.0, last.at.1) == (value.start, value.end) => last.interval,
                _ => (Decimal::new(value.start), Decimal::new(value.end)),
            };
            let repeat = value
                .repeat
                .map(|(length, unit)| (Decimal::new(length), Decimal::new(unit)));
            let location = match self.last_location {
                Some((start, end, number)) if (start, end) == (value.start, value.end) => number,
                _ => {
                    let number = batch.add_location(&contig.middle, &interval.0, &interval.1);
                    self.last_location = Some((value.start, value.end, number));
                    if self.engine.options.keep_alleles {
                        let accession = self.facts.alleles.accessions.len() as i64 - 1;
                        self.facts
                            .alleles
                            .places
                            .extend([accession, value.start as i64, value.end as i64]);
                    }
                    number
                }
            };
            let state = match &repeat {
                Some((length, unit)) => State::ReferenceLength(length.text(), unit.text()),
                None => State::Literal(&sequences[value.sequence.clone().unwrap_or_default()]),
            };
            text.extend_from_slice(ALLELE_PREFIX);
            batch.add_allele(location, state, text.len());
            text.extend_from_slice(&[0; WIDTH]);
            if self.engine.options.keep_alleles {
                self.facts
                    .alleles
                    .add((self.locations_before + location) as i64, value, sequences);
            }
            texts.push(Some(Texts {
                at: (value.start, value.end),
                interval,
                repeat,
            }));
        }
        if self.engine.options.attributes {
            let values = || values.iter().zip(texts.iter());
            let [starts, ends, states, lengths, subunits] = ATTRIBUTES;
            list(text, starts, texts.iter(), |text, item| {
                item.as_ref().map(|item| item.interval.0.append_to(text))
            });
            list(text, ends, texts.iter(), |text, item| {
                item.as_ref().map(|item| item.interval.1.append_to(text))
            });
            list(text, states, values(), |text, (value, _)| {
                let sequence = &sequences[value.as_ref()?.sequence.clone()?];
                (!sequence.is_empty()).then(|| text.extend_from_slice(sequence))
            });
            list(text, lengths, texts.iter(), |text, item| {
                item.as_ref()?
                    .repeat
                    .as_ref()
                    .map(|repeat| repeat.0.append_to(text))
            });
            list(text, subunits, texts.iter(), |text, item| {
                item.as_ref()?
                    .repeat
                    .as_ref()
                    .map(|repeat| repeat.1.append_to(text))
            });
        }
    }
}

impl Kept {
    /// Note what the allele at a location of this number is.
    fn add(&mut self, location: i64, value: &Value, sequences: &[u8]) {
        self.places_of.push(location);
        let from = self.sequences.len() as i64;
        let length = match &value.sequence {
            Some(range) => {
                self.sequences.extend_from_slice(&sequences[range.clone()]);
                range.len() as i64
            }
            None => -1,
        };
        let (repeat, unit) = value
            .repeat
            .map_or((-1, -1), |(repeat, unit)| (repeat as i64, unit as i64));
        self.states.extend([from, length, repeat, unit]);
    }
}

/// Write a field with the value of each item that `append` appends, `.` where that is None, and the semicolon
/// before the field.
fn list<T>(
    text: &mut Vec<u8>,
    name: &[u8],
    items: impl Iterator<Item = T>,
    append: impl Fn(&mut Vec<u8>, T) -> Option<()>,
) {
    text.push(b';');
    text.extend_from_slice(name);
    let mut separator = b'=';
    for item in items {
        text.push(separator);
        separator = b',';
        if append(text, item).is_none() {
            text.push(b'.');
        }
    }
}

/// Numbers of records or alleles by what they are, in the order in which that was met first.
#[derive(Default)]
pub struct Tally(pub Vec<(&'static str, usize)>);

impl Tally {
    #[inline]
    fn count(&mut self, name: &'static str) {
        // Names are constants: the same ones have the same address, which is compared first.
        match self
            .0
            .iter_mut()
            .find(|count| std::ptr::eq(count.0, name) || count.0 == name)
        {
            Some(count) => count.1 += 1,
            None => self.0.push((name, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::location_middle;

    const ACCESSION: &str = "SQ.IIB53T8CNeJJdUqzn9V_JnRtQadwWCbl";

    /// An engine over a FASTA of one contig, chr1 = ACGTACGTCC, and what looks contigs up in it.
    fn engine(name: &str, options: Options) -> Engine {
        let path = std::env::temp_dir().join(format!("anyvar-step-{}-engine-{name}.fa", std::process::id()));
        std::fs::write(&path, b">chr1\nACGTACGTCC\n").unwrap();
        let fasta = Fasta::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        Engine::new(fasta, b"GRCh38".to_vec(), options, Lanes::available()[0])
    }

    fn lookup(name: &[u8]) -> Result<Option<Contig>, ()> {
        let layout = Layout {
            length: 10,
            offset: 6,
            line_bases: 10,
            line_width: 11,
        };
        let middle = location_middle(ACCESSION).unwrap();
        Ok((name == b"chr1").then(|| Contig {
            accession: ACCESSION.to_owned(),
            middle,
            layout,
        }))
    }

    const ALL: Options = Options {
        for_ref: true,
        attributes: true,
        keep_alleles: true,
        existing: Existing::Error,
    };

    #[test]
    fn fields_come_behind_info_and_nothing_else_changes() {
        let block = b"chr1\t9\tx\tC\tCC,*\t.\tq\tDP=1\tGT\t0/1\nchr1\t2\t.\tT\tG\t.\t.\t.\n\
            chrU\t2\t.\tT\tG\t.\t.\t.\n";
        let found = engine("fields", ALL).annotate(block, lookup).unwrap();
        let text = String::from_utf8(found.text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("chr1\t9\tx\tC\tCC,*\t.\tq\tDP=1;VRS_Allele_IDs=ga4gh:VA."),
            "{text}"
        );
        let attributes = ",.;VRS_Starts=8,8,.;VRS_Ends=9,10,.;VRS_States=C,CCC,.;VRS_Lengths=1,3,.;\
            VRS_RepeatSubunitLengths=1,1,.\tGT\t0/1";
        assert!(lines[0].ends_with(attributes), "{text}");
        let error = "chr1\t2\t.\tT\tG\t.\t.\tVRS_Error=Reference%20mismatch%20at%20GRCh38:chr1%20position%20\
            1-2%20(input%20gave%20'T'%20but%20correct%20ref%20is%20'C')";
        assert_eq!(lines[1], error);
        assert!(
            lines[2].starts_with("chrU\t2\t.\tT\tG\t.\t.\tVRS_Allele_IDs=.,.;VRS_Starts=.,.;"),
            "{text}"
        );
        assert_eq!(
            (found.records, found.ids, found.kept, found.plain),
            (3, 2, 0, false)
        );
        assert_eq!(found.kinds.0, [("insertion", 1), ("overlapping", 1), ("snv", 2)]);
        assert_eq!(
            found.examples,
            [("ref_mismatch", b"chr1:2 REF T, reference C".to_vec())]
        );
        assert_eq!(found.alleles.places, [0, 8, 9, 0, 8, 10]);
        assert_eq!(found.alleles.states, [0, 1, 1, 1, 1, 3, 3, 1]);
        assert_eq!(found.alleles.sequences, b"CCCC");
    }

    #[test]
    fn a_line_that_is_no_record_is_refused_by_its_number() {
        let engine = engine("refused", ALL);
        let record = "chr1\t1\t.\tA\tC\t.\t.\t.\n";
        for (line, code, raw) in [
            ("chr1\t1\t.\tA\n", "columns", "4"),
            ("\n", "empty", ""),
            ("chr1\tx\t.\tA\tC\t.\t.\t.\n", "position", "x"),
            ("chr1\t1\t.\tA\tC\t.\t.\tVRS_Ends=2\n", "existing", ""),
        ] {
            match engine.annotate(format!("{record}{line}").as_bytes(), lookup) {
                Err(Failure::Refused(1, found, text)) => {
                    assert_eq!((found, text), (code, raw.as_bytes().to_vec()));
                }
                _ => panic!("{line:?} is not refused"),
            }
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(
            guarded(|| -> () { panic!("on {}", "purpose") }),
            Err("on purpose".to_owned())
        );
    }
}
