//! Serialisations and digests of VRS 2.0.1 locations and alleles.
//!
//! An identifier is a prefix and sha512t24u of a canonical JSON text: 24 bytes of SHA-512 in base64url, which
//! are 32 characters. An allele's text has its location's digest, so locations are digested first, and both
//! wait in a `Batch` until there are enough to fill the lanes of SHA-512.

use crate::sha512::{self, BLOCK, Digest, Lanes, Slot, Tail};

/// Characters of a digest.
pub const WIDTH: usize = 32;
pub const ALLELE_PREFIX: &[u8] = b"ga4gh:VA.";

const ALLELE_HEAD: &[u8] = b"{\"location\":\"";
const LOCATION_HEAD: &[u8] = b"{\"end\":";
const LOCATION_TAIL: &[u8] = b",\"type\":\"SequenceLocation\"}";
const LITERAL_HEAD: &[u8] = b"\",\"state\":{\"sequence\":\"";
const LITERAL_TAIL: &[u8] = b"\",\"type\":\"LiteralSequenceExpression\"},\"type\":\"Allele\"}";
const LENGTH_HEAD: &[u8] = b"\",\"state\":{\"length\":";
const LENGTH_MIDDLE: &[u8] = b",\"repeatSubunitLength\":";
const LENGTH_TAIL: &[u8] = b",\"type\":\"ReferenceLengthExpression\"},\"type\":\"Allele\"}";

/// Bytes of a literal's serialisation beside its sequence, and of another's beside its two numbers.
const LITERAL_BYTES: usize = ALLELE_HEAD.len() + WIDTH + LITERAL_HEAD.len() + LITERAL_TAIL.len();
const LENGTH_BYTES: usize =
    ALLELE_HEAD.len() + WIDTH + LENGTH_HEAD.len() + LENGTH_MIDDLE.len() + LENGTH_TAIL.len();

/// Locations that wait at most: with their alleles they stay in the processor's nearer caches.
const WAITING: usize = 96;
/// Literals whose second block is padding alone: of fewer bases than this.
const SHORT: usize = BLOCK - LITERAL_BYTES;
/// ReferenceLengthExpressions that have lanes of their own: with fewer digits in their numbers than this.
const DIGITS: usize = 10;

/// A location's serialisation between its end and its start, the same for all of a sequence.
pub type Middle = [u8; 114];

/// The part of a location's serialisation that names the sequence; None where that is no refget accession.
pub fn location_middle(accession: &str) -> Option<Middle> {
    let text = format!(
        ",\"sequenceReference\":{{\"refgetAccession\":\"{accession}\",\"type\":\"SequenceReference\"}},\"start\":"
    );
    text.as_bytes().try_into().ok()
}

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    length: u8,
}

/// The eight digits of a number below 10⁸, one a byte, the first one lowest.
#[inline]
fn eight_digits(number: u64) -> u64 {
    // Divisions by 100 and 10 of several parts at once, as products with 2²⁰ / 100 and 2¹⁰ / 10, rounded up.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds + ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens + ((twos - 10 * tens) << 8)
}

impl Decimal {
    /// Stays in registers for numbers of up to sixteen digits: what is written by bytes and read back by
    /// vectors waits for the memory.
    #[inline]
    pub fn new(number: u64) -> Self {
        const HALF: u64 = 100_000_000;
        let mut digits = [0; 20];
        if number >= HALF * HALF {
            let text = number.to_string();
            digits[..text.len()].copy_from_slice(text.as_bytes());
            let length = text.len() as u8;
            return Self { digits, length };
        }
        let values =
            u128::from(eight_digits(number / HALF)) | (u128::from(eight_digits(number % HALF)) << 64);
        let zeros = (values.trailing_zeros() / 8).min(15);
        let text = (values + u128::from_ne_bytes([b'0'; 16])) >> (8 * zeros);
        digits[..16].copy_from_slice(&text.to_le_bytes());
        let length = 16 - zeros as u8;
        Self { digits, length }
    }

    pub fn text(&self) -> &[u8] {
        &self.digits[..usize::from(self.length)]
    }

    /// Append the digits. Copies of one length, cut off afterwards, take half the time of those of any length.
    #[inline]
    pub fn append_to(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(&self.digits);
        text.truncate(text.len() - self.digits.len() + usize::from(self.length));
    }
}

/// A message that is written into a slot.
struct Message<'a> {
    slot: &'a mut Slot,
    length: usize,
}

impl Message<'_> {
    #[inline]
    fn put(&mut self, text: &[u8]) -> &mut Self {
        self.slot[self.length..][..text.len()].copy_from_slice(text);
        self.length += text.len();
        self
    }

    /// Put a number, whose digits are followed by zeros, as the message is.
    #[inline]
    fn put_number(&mut self, number: &Decimal) -> &mut Self {
        self.slot[self.length..][..number.digits.len()].copy_from_slice(&number.digits);
        self.length += usize::from(number.length);
        self
    }
}

/// What an allele is at its location, as its serialisation has it.
#[derive(Clone, Copy)]
pub enum State<'a> {
    Literal(&'a [u8]),
    /// ReferenceLengthExpression: length and repeat subunit length; its sequence is not digested.
    ReferenceLength(&'a [u8], &'a [u8]),
}

/// An allele that waits for its identifier.
struct Waiting {
    /// Its location's place among those that wait.
    location: usize,
    /// Where the characters of its digest belong in the text.
    at: usize,
    /// Its number in the block.
    number: usize,
}

/// Where a literal's sequence begins in its serialisation.
const SEQUENCE: usize = ALLELE_HEAD.len() + WIDTH + LITERAL_HEAD.len();

/// Alleles whose messages can be digested together.
struct Bucket {
    /// The second block of all of them, and one of them as an example; None where they have nothing in common.
    shared: Option<(Tail, Slot)>,
    slots: Vec<Slot>,
    waiting: Vec<Waiting>,
    /// How many of them have their location's digest already.
    located: usize,
}

/// Locations and alleles of one block on the way to their digests.
pub struct Batch {
    lanes: Lanes,
    keep: bool,
    locations: Vec<Slot>,
    /// Short literals by length, ReferenceLengthExpressions by digits, and last all others of two blocks.
    buckets: Vec<Bucket>,
    /// Alleles of more than two blocks.
    long: Vec<(Vec<u8>, Waiting)>,
    alleles: usize,
    digests: Vec<Digest>,
    texts: Vec<[u8; WIDTH]>,
    /// With `keep`, all digests of the block, in the order in which locations and alleles were added.
    pub location_digests: Vec<Digest>,
    pub allele_digests: Vec<Digest>,
}

impl Batch {
    pub fn new(lanes: Lanes, keep: bool) -> Self {
        let mut buckets = Vec::new();
        for length in 0..SHORT {
            buckets.push(Bucket::of(Some(State::Literal(&b"AAAAAAAA"[..length]))));
        }
        for digits in 2..DIGITS {
            let length = &b"111111111"[..digits - 1];
            buckets.push(Bucket::of(Some(State::ReferenceLength(length, b"1"))));
        }
        buckets.push(Bucket::of(None));
        Self {
            lanes,
            keep,
            locations: Vec::new(),
            buckets,
            long: Vec::new(),
            alleles: 0,
            digests: Vec::new(),
            texts: Vec::new(),
            location_digests: Vec::new(),
            allele_digests: Vec::new(),
        }
    }

    /// Forget everything of the last block, the digests too.
    pub fn clear(&mut self) {
        self.locations.clear();
        for bucket in &mut self.buckets {
            bucket.slots.clear();
            bucket.waiting.clear();
            bucket.located = 0;
        }
        self.long.clear();
        self.alleles = 0;
        self.location_digests.clear();
        self.allele_digests.clear();
    }

    /// How many alleles the block has so far.
    pub fn alleles(&self) -> usize {
        self.alleles
    }

    /// Whether it is time for `flush`.
    pub fn is_full(&self) -> bool {
        self.locations.len() >= WAITING
    }

    /// Add the location [start, end); alleles name it by the number that this returns, until the next flush.
    pub fn add_location(&mut self, middle: &Middle, start: &Decimal, end: &Decimal) -> usize {
        self.locations.push([0; 2 * BLOCK]);
        let number = self.locations.len() - 1;
        let mut message = Message {
            slot: &mut self.locations[number],
            length: 0,
        };
        message
            .put(LOCATION_HEAD)
            .put_number(end)
            .put(middle)
            .put_number(start)
            .put(LOCATION_TAIL);
        let length = message.length;
        sha512::pad(&mut self.locations[number], length);
        number
    }

    /// Add an allele, for the digest of which the text has space from `at` on.
    pub fn add_allele(&mut self, location: usize, state: State<'_>, at: usize) {
        let waiting = Waiting {
            location,
            at,
            number: self.alleles,
        };
        self.alleles += 1;
        let last = self.buckets.len() - 1;
        let number = match state {
            State::Literal(sequence) if sequence.len() < SHORT => sequence.len(),
            State::Literal(sequence) if sequence.len() + LITERAL_BYTES > sha512::LONGEST => {
                let parts = [ALLELE_HEAD, &[0; WIDTH], LITERAL_HEAD, sequence, LITERAL_TAIL];
                self.long.push((parts.concat(), waiting));
                return;
            }
            State::ReferenceLength(length, subunit) if length.len() + subunit.len() < DIGITS => {
                SHORT + length.len() + subunit.len() - 2
            }
            _ => last,
        };
        let bucket = &mut self.buckets[number];
        bucket.waiting.push(waiting);
        if let (State::Literal(sequence), Some((_, example))) = (state, &bucket.shared) {
            let mut slot = *example;
            slot[SEQUENCE..][..sequence.len()].copy_from_slice(sequence);
            bucket.slots.push(slot);
        } else {
            let mut slot = [0; 2 * BLOCK];
            write_allele(&mut slot, state);
            bucket.slots.push(slot);
        }
    }

    /// Digest what waits, and write the alleles' digests into the text. What would leave lanes empty waits on
    /// unless it is the `last` flush of the block. The number of locations that were digested.
    pub fn flush(&mut self, text: &mut [u8], last: bool) -> usize {
        let Self {
            lanes,
            keep,
            locations,
            buckets,
            long,
            digests,
            texts,
            ..
        } = self;
        digests.resize(locations.len(), [0; 24]);
        lanes.digest(locations, None, digests);
        texts.clear();
        texts.extend(digests.iter().map(base64url));
        if *keep {
            self.location_digests.extend_from_slice(digests);
            self.allele_digests.resize(self.alleles, [0; 24]);
        }
        locations.clear();
        let mut finish = |waiting: &Waiting, digest: &Digest| {
            text[waiting.at..][..WIDTH].copy_from_slice(&base64url(digest));
            if *keep {
                self.allele_digests[waiting.number] = *digest;
            }
        };
        for bucket in buckets {
            if bucket.waiting.is_empty() {
                continue;
            }
            for number in bucket.located..bucket.waiting.len() {
                let location = &texts[bucket.waiting[number].location];
                bucket.slots[number][ALLELE_HEAD.len()..][..WIDTH].copy_from_slice(location);
            }
            let number = bucket.waiting.len();
            let ready = if last {
                number
            } else {
                number - number % lanes.count()
            };
            digests.resize(ready, [0; 24]);
            lanes.digest(
                &bucket.slots[..ready],
                bucket.shared.as_ref().map(|shared| &shared.0),
                digests,
            );
            for (waiting, digest) in bucket.waiting[..ready].iter().zip(digests.iter()) {
                finish(waiting, digest);
            }
            bucket.slots.drain(..ready);
            bucket.waiting.drain(..ready);
            bucket.located = bucket.waiting.len();
        }
        for (mut message, waiting) in long.drain(..) {
            message[ALLELE_HEAD.len()..][..WIDTH].copy_from_slice(&texts[waiting.location]);
            finish(&waiting, &sha512::digest_of(&message));
        }
        texts.len()
    }
}

impl Bucket {
    /// A bucket of alleles whose serialisations are as long as that of an allele of this state, or of any.
    fn of(state: Option<State<'_>>) -> Self {
        let shared = state.map(|state| {
            let mut slot = [0; 2 * BLOCK];
            write_allele(&mut slot, state);
            (Tail::of(&slot), slot)
        });
        Self {
            shared,
            slots: Vec::new(),
            waiting: Vec::new(),
            located: 0,
        }
    }
}

/// Write an allele's serialisation with padding into a slot of zeros; its location's digest is left out.
fn write_allele(slot: &mut Slot, state: State<'_>) {
    let mut message = Message { slot, length: 0 };
    message.put(ALLELE_HEAD).put(&[0; WIDTH]);
    match state {
        State::Literal(sequence) => message.put(LITERAL_HEAD).put(sequence).put(LITERAL_TAIL),
        State::ReferenceLength(length, subunit) => message
            .put(LENGTH_HEAD)
            .put(length)
            .put(LENGTH_MIDDLE)
            .put(subunit)
            .put(LENGTH_TAIL),
    };
    let length = message.length;
    debug_assert!(length >= LITERAL_BYTES.min(LENGTH_BYTES));
    sha512::pad(slot, length);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Two characters for each number of twelve bits.
static PAIRS: [[u8; 2]; 4096] = {
    let mut pairs = [[0; 2]; 4096];
    let mut number = 0;
    while number < 4096 {
        pairs[number] = [ALPHABET[number >> 6], ALPHABET[number & 63]];
        number += 1;
    }
    pairs
};

/// A digest in base64url; 24 bytes need no padding.
fn base64url(digest: &Digest) -> [u8; WIDTH] {
    let mut text = [0; WIDTH];
    for (bytes, characters) in digest.as_chunks::<3>().0.iter().zip(text.as_chunks_mut::<4>().0) {
        let number = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        characters[..2].copy_from_slice(&PAIRS[number >> 12]);
        characters[2..].copy_from_slice(&PAIRS[number & 0xfff]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESSION: &str = "SQ.IIB53T8CNeJJdUqzn9V_JnRtQadwWCbl";

    fn identifier(lanes: Lanes, start: u64, end: u64, state: State<'_>, copies: usize) -> Vec<String> {
        let mut batch = Batch::new(lanes, true);
        let middle = location_middle(ACCESSION).unwrap();
        let mut text = vec![0; copies * WIDTH];
        for copy in 0..copies {
            let location = batch.add_location(&middle, &Decimal::new(start), &Decimal::new(end));
            batch.add_allele(location, state, copy * WIDTH);
            if copy % 7 == 3 {
                batch.flush(&mut text, false);
            }
        }
        batch.flush(&mut text, true);
        assert_eq!(batch.allele_digests.len(), copies);
        assert!(
            batch
                .allele_digests
                .iter()
                .zip(text.chunks(WIDTH))
                .all(|(a, b)| base64url(a) == b)
        );
        text.chunks(WIDTH)
            .map(|id| String::from_utf8(id.to_vec()).unwrap())
            .collect()
    }

    fn digest(text: &str) -> String {
        String::from_utf8(base64url(&sha512::digest_of(text.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn digests_are_those_of_the_serialisations() {
        let (start, end) = (44908683, 44908684);
        let location = digest(&format!(
            "{{\"end\":{end},\"sequenceReference\":{{\"refgetAccession\":\"{ACCESSION}\",\"type\":\
             \"SequenceReference\"}},\"start\":{start},\"type\":\"SequenceLocation\"}}"
        ));
        for lanes in Lanes::available() {
            for length in (0..140).chain([5000]) {
                let sequence = "G".repeat(length);
                let allele = digest(&format!(
                    "{{\"location\":\"{location}\",\"state\":{{\"sequence\":\"{sequence}\",\"type\":\
                     \"LiteralSequenceExpression\"}},\"type\":\"Allele\"}}"
                ));
                let found = identifier(lanes, start, end, State::Literal(sequence.as_bytes()), 13);
                assert!(found.iter().all(|id| *id == allele), "{lanes:?} {length}");
            }
            for (length, subunit) in [
                ("1", "1"),
                ("52", "7"),
                ("100000", "1000"),
                ("9999999", "999999999"),
            ] {
                let allele = digest(&format!(
                    "{{\"location\":\"{location}\",\"state\":{{\"length\":{length},\"repeatSubunitLength\":\
                     {subunit},\"type\":\"ReferenceLengthExpression\"}},\"type\":\"Allele\"}}"
                ));
                let state = State::ReferenceLength(length.as_bytes(), subunit.as_bytes());
                let found = identifier(lanes, start, end, state, 13);
                assert!(found.iter().all(|id| *id == allele), "{lanes:?} {length}");
            }
        }
    }

    #[test]
    fn numbers_have_the_digits_that_they_have() {
        let mut numbers = vec![0, u64::MAX, 10_000_000_019];
        for power in 0..20 {
            let ten = 10_u64.pow(power);
            numbers.extend([ten - 1, ten, ten + 1, ten / 7 * 9]);
        }
        for number in numbers
            .into_iter()
            .chain(0..20_000)
            .chain((0..1 << 34).step_by(99_991))
        {
            let found = Decimal::new(number);
            assert_eq!(found.text(), number.to_string().as_bytes());
            assert!(
                found.digits[usize::from(found.length)..]
                    .iter()
                    .all(|&digit| digit == 0)
            );
        }
    }

    #[test]
    fn a_known_identifier_comes_out() {
        // GA4GH VRS 2.0.1, the example of an Allele: rs7412, NC_000019.10:g.44908822C>T.
        let found = identifier(Lanes::Scalar, 44908821, 44908822, State::Literal(b"T"), 1);
        assert_eq!(found, ["0AePZIWZUNsUlQTamyLrjm2HWUw2opLt"]);
    }
}
