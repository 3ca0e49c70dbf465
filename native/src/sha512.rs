//! SHA-512 (FIPS 180-4) of many messages of two blocks at once, of each the first 24 bytes.
//!
//! Every location and nearly every allele of VRS serialises to 112 to 239 bytes, which are two blocks with
//! their padding. SIMD lanes compress one block of each of several messages at once: eight lanes with
//! AVX-512, four with AVX2, else one message after the other by the `sha2` crate. Instructions are chosen at
//! run time.
//!
//! The second block of most alleles depends on nothing but the length of the message, so it is expanded once
//! (`Tail`), which saves a third of its work.

use sha2::block_api::compress512;

/// Bytes of one block of SHA-512.
pub const BLOCK: usize = 128;
/// The longest message that has two blocks.
pub const LONGEST: usize = 2 * BLOCK - 17;
/// The shortest message that has two blocks.
pub const SHORTEST: usize = BLOCK - 16;

/// A message of two blocks with its padding.
pub type Slot = [u8; 2 * BLOCK];
/// The first 24 bytes of a SHA-512 digest, which are what VRS identifiers have of it.
pub type Digest = [u8; 24];

const INITIAL: [u64; 8] = [
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
];

const K: [u64; 80] = [
    0x428a2f98d728ae22,
    0x7137449123ef65cd,
    0xb5c0fbcfec4d3b2f,
    0xe9b5dba58189dbbc,
    0x3956c25bf348b538,
    0x59f111f1b605d019,
    0x923f82a4af194f9b,
    0xab1c5ed5da6d8118,
    0xd807aa98a3030242,
    0x12835b0145706fbe,
    0x243185be4ee4b28c,
    0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f,
    0x80deb1fe3b1696b1,
    0x9bdc06a725c71235,
    0xc19bf174cf692694,
    0xe49b69c19ef14ad2,
    0xefbe4786384f25e3,
    0x0fc19dc68b8cd5b5,
    0x240ca1cc77ac9c65,
    0x2de92c6f592b0275,
    0x4a7484aa6ea6e483,
    0x5cb0a9dcbd41fbd4,
    0x76f988da831153b5,
    0x983e5152ee66dfab,
    0xa831c66d2db43210,
    0xb00327c898fb213f,
    0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2,
    0xd5a79147930aa725,
    0x06ca6351e003826f,
    0x142929670a0e6e70,
    0x27b70a8546d22ffc,
    0x2e1b21385c26c926,
    0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df,
    0x650a73548baf63de,
    0x766a0abb3c77b2a8,
    0x81c2c92e47edaee6,
    0x92722c851482353b,
    0xa2bfe8a14cf10364,
    0xa81a664bbc423001,
    0xc24b8b70d0f89791,
    0xc76c51a30654be30,
    0xd192e819d6ef5218,
    0xd69906245565a910,
    0xf40e35855771202a,
    0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8,
    0x1e376c085141ab53,
    0x2748774cdf8eeb99,
    0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63,
    0x4ed8aa4ae3418acb,
    0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc,
    0x78a5636f43172f60,
    0x84c87814a1f0ab72,
    0x8cc702081a6439ec,
    0x90befffa23631e28,
    0xa4506cebde82bde9,
    0xbef9a3f7b2c67915,
    0xc67178f2e372532b,
    0xca273eceea26619c,
    0xd186b8c721c0c207,
    0xeada7dd6cde0eb1e,
    0xf57d4f7fee6ed178,
    0x06f067aa72176fba,
    0x0a637dc5a2c898a6,
    0x113f9804bef90dae,
    0x1b710b35131c471b,
    0x28db77f523047d84,
    0x32caab7b40c72493,
    0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6,
    0x597f299cfc657e2a,
    0x5fcb6fab3ad6faec,
    0x6c44198c4a475817,
];

/// Adds SHA-512's padding to the message of `length` bytes at the start of a slot that is zero behind it.
pub fn pad(slot: &mut Slot, length: usize) {
    assert!((SHORTEST..=LONGEST).contains(&length));
    slot[length] = 0x80;
    slot[2 * BLOCK - 8..].copy_from_slice(&(8 * length as u64).to_be_bytes());
}

/// A second block that several messages have in common.
pub struct Tail {
    block: [u8; BLOCK],
    /// The message schedule, round constants added.
    schedule: [u64; 80],
}

impl Tail {
    /// The second block of this message.
    pub fn of(slot: &Slot) -> Self {
        let mut block = [0; BLOCK];
        block.copy_from_slice(&slot[BLOCK..]);
        let mut words = [0u64; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
            *word = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        }
        for i in 16..80 {
            let (early, late) = (words[i - 15], words[i - 2]);
            let s0 = early.rotate_right(1) ^ early.rotate_right(8) ^ (early >> 7);
            let s1 = late.rotate_right(19) ^ late.rotate_right(61) ^ (late >> 6);
            words[i] = words[i - 16]
                .wrapping_add(s0)
                .wrapping_add(words[i - 7])
                .wrapping_add(s1);
        }
        for (word, k) in words.iter_mut().zip(K) {
            *word = word.wrapping_add(k);
        }
        Self {
            block,
            schedule: words,
        }
    }
}

/// The instructions that digests are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Scalar,
}

impl Lanes {
    /// All that this processor has, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                found.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Scalar);
        found
    }

    /// Messages that are digested at once.
    pub fn count(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 4,
            Self::Scalar => 1,
        }
    }

    /// The digests of these messages, into `digests`, which are as many. With a `tail` that is their second
    /// block, and only the first one is read of a slot.
    pub fn digest(self, slots: &[Slot], tail: Option<&Tail>, digests: &mut [Digest]) {
        assert_eq!(slots.len(), digests.len());
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                // SAFETY: `available` alone makes this value, where the processor has AVX-512 F and BW.
                unsafe { avx512::digest(slots, tail, digests) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                // SAFETY: `available` alone makes this value, where the processor has AVX2.
                unsafe { avx2::digest(slots, tail, digests) }
            }
            Self::Scalar => {
                for (slot, digest) in slots.iter().zip(digests) {
                    let mut state = INITIAL;
                    let (blocks, _) = slot.as_chunks::<BLOCK>();
                    let second = tail.map_or(&blocks[1], |tail| &tail.block);
                    compress512(&mut state, &[blocks[0], *second]);
                    *digest = truncated(state[0], state[1], state[2]);
                }
            }
        }
    }
}

/// The digest of a message of any length.
pub fn digest_of(message: &[u8]) -> Digest {
    let mut state = INITIAL;
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    compress512(&mut state, blocks);
    let mut last = [[0; BLOCK]; 2];
    let padded = last.as_flattened_mut();
    padded[..rest.len()].copy_from_slice(rest);
    padded[rest.len()] = 0x80;
    let size = if rest.len() < SHORTEST { BLOCK } else { 2 * BLOCK };
    padded[size - 16..size].copy_from_slice(&(8 * message.len() as u128).to_be_bytes());
    compress512(&mut state, &last[..size / BLOCK]);
    truncated(state[0], state[1], state[2])
}

fn truncated(a: u64, b: u64, c: u64) -> Digest {
    let mut digest = [0; 24];
    digest[..8].copy_from_slice(&a.to_be_bytes());
    digest[8..16].copy_from_slice(&b.to_be_bytes());
    digest[16..].copy_from_slice(&c.to_be_bytes());
    digest
}

/// The functions that are alike for vectors of any width, in the words of the module in which it stands:
/// `Vector`, `LANES`, `splat`, `add`, `xor3`, `choose`, `majority`, `rotate`, `shift`, `load` and `lanes`.
#[cfg(target_arch = "x86_64")]
macro_rules! compression {
    ($feature:literal) => {
        #[target_feature(enable = $feature)]
        pub fn digest(slots: &[Slot], tail: Option<&Tail>, digests: &mut [Digest]) {
            for (slots, digests) in slots.chunks(LANES).zip(digests.chunks_mut(LANES)) {
                // The lanes beyond the last message repeat it.
                let row = |lane: usize| &slots[lane.min(slots.len() - 1)];
                let mut state = INITIAL.map(|word| splat(word));
                compress(&mut state, &mut load(std::array::from_fn(|lane| row(lane)), 0));
                match tail {
                    Some(tail) => compress_expanded(&mut state, &tail.schedule),
                    None => compress(&mut state, &mut load(std::array::from_fn(|lane| row(lane)), BLOCK)),
                }
                let (a, b, c) = (lanes(state[0]), lanes(state[1]), lanes(state[2]));
                for (lane, digest) in digests.iter_mut().enumerate() {
                    *digest = truncated(a[lane], b[lane], c[lane]);
                }
            }
        }

        /// One round; `$word` has the round constant added.
        macro_rules! round {
            ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $word:expr) => {
                let sum1 = xor3(rotate::<14>($e), rotate::<18>($e), rotate::<41>($e));
                let first = add(add($h, $word), add(sum1, choose($e, $f, $g)));
                let sum0 = xor3(rotate::<28>($a), rotate::<34>($a), rotate::<39>($a));
                $d = add($d, first);
                $h = add(first, add(sum0, majority($a, $b, $c)));
            };
        }

        /// Sixteen rounds; `$word` gives the word of each, round constant added.
        macro_rules! sixteen {
            ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $word:expr) => {
                round!($a $b $c $d $e $f $g $h, $word(0));
                round!($h $a $b $c $d $e $f $g, $word(1));
                round!($g $h $a $b $c $d $e $f, $word(2));
                round!($f $g $h $a $b $c $d $e, $word(3));
                round!($e $f $g $h $a $b $c $d, $word(4));
                round!($d $e $f $g $h $a $b $c, $word(5));
                round!($c $d $e $f $g $h $a $b, $word(6));
                round!($b $c $d $e $f $g $h $a, $word(7));
                round!($a $b $c $d $e $f $g $h, $word(8));
                round!($h $a $b $c $d $e $f $g, $word(9));
                round!($g $h $a $b $c $d $e $f, $word(10));
                round!($f $g $h $a $b $c $d $e, $word(11));
                round!($e $f $g $h $a $b $c $d, $word(12));
                round!($d $e $f $g $h $a $b $c, $word(13));
                round!($c $d $e $f $g $h $a $b, $word(14));
                round!($b $c $d $e $f $g $h $a, $word(15));
            };
        }

        #[target_feature(enable = $feature)]
        fn compress(state: &mut [Vector; 8], words: &mut [Vector; 16]) {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
            sixteen!(a b c d e f g h, |i: usize| add(words[i], splat(K[i])));
            for base in [16, 32, 48, 64] {
                sixteen!(a b c d e f g h, |i: usize| {
                    let (early, late) = (words[(i + 1) % 16], words[(i + 14) % 16]);
                    let s0 = xor3(rotate::<1>(early), rotate::<8>(early), shift::<7>(early));
                    let s1 = xor3(rotate::<19>(late), rotate::<61>(late), shift::<6>(late));
                    words[i] = add(add(words[i], s0), add(words[(i + 9) % 16], s1));
                    add(words[i], splat(K[base + i]))
                });
            }
            for (word, change) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *word = add(*word, change);
            }
        }

        #[target_feature(enable = $feature)]
        fn compress_expanded(state: &mut [Vector; 8], schedule: &[u64; 80]) {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
            let (sixteens, _) = schedule.as_chunks::<16>();
            for words in sixteens {
                sixteen!(a b c d e f g h, |i: usize| splat(words[i]));
            }
            for (word, change) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *word = add(*word, change);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, Digest, INITIAL, K, Slot, Tail, truncated};
    use std::arch::x86_64::*;

    type Vector = __m256i;
    const LANES: usize = 4;

    compression!("avx2");

    #[inline]
    #[target_feature(enable = "avx2")]
    fn splat(word: u64) -> Vector {
        _mm256_set1_epi64x(word as i64)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(a: Vector, b: Vector) -> Vector {
        _mm256_add_epi64(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm256_xor_si256(_mm256_xor_si256(a, b), c)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn choose(e: Vector, f: Vector, g: Vector) -> Vector {
        _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const BITS: i32>(word: Vector) -> Vector {
        // The count is a constant expression of the caller's, which the immediate form cannot take as 64 - BITS.
        let left = _mm256_sll_epi64(word, _mm_cvtsi32_si128(64 - BITS));
        _mm256_or_si256(_mm256_srli_epi64::<BITS>(word), left)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn shift<const BITS: i32>(word: Vector) -> Vector {
        _mm256_srli_epi64::<BITS>(word)
    }

    /// The block at `offset` of each row as sixteen words, of which each has its lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(rows: [&Slot; LANES], offset: usize) -> [Vector; 16] {
        let big_endian = _mm256_setr_epi8(
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11,
            10, 9, 8,
        );
        let mut words = [_mm256_setzero_si256(); 16];
        for part in 0..4 {
            let [r0, r1, r2, r3] = rows.map(|row| {
                let bytes = &row[offset + 32 * part..][..32];
                // SAFETY: the slice has the 32 bytes that are read; the load needs no alignment.
                let loaded = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
                _mm256_shuffle_epi8(loaded, big_endian)
            });
            let (even01, odd01) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpackhi_epi64(r0, r1));
            let (even23, odd23) = (_mm256_unpacklo_epi64(r2, r3), _mm256_unpackhi_epi64(r2, r3));
            words[4 * part] = _mm256_permute2x128_si256::<0x20>(even01, even23);
            words[4 * part + 1] = _mm256_permute2x128_si256::<0x20>(odd01, odd23);
            words[4 * part + 2] = _mm256_permute2x128_si256::<0x31>(even01, even23);
            words[4 * part + 3] = _mm256_permute2x128_si256::<0x31>(odd01, odd23);
        }
        words
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes(vector: Vector) -> [u64; LANES] {
        let mut words = [0; LANES];
        // SAFETY: the array has the 32 bytes that are written; the store needs no alignment.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
        words
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{BLOCK, Digest, INITIAL, K, Slot, Tail, truncated};
    use std::arch::x86_64::*;

    type Vector = __m512i;
    const LANES: usize = 8;

    compression!("avx512f,avx512bw");

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn splat(word: u64) -> Vector {
        _mm512_set1_epi64(word as i64)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add(a: Vector, b: Vector) -> Vector {
        _mm512_add_epi64(a, b)
    }

    // The numbers of `ternarylogic` are truth tables of their three operands.

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi64::<0x96>(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn choose(e: Vector, f: Vector, g: Vector) -> Vector {
        _mm512_ternarylogic_epi64::<0xca>(e, f, g)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi64::<0xe8>(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn rotate<const BITS: i32>(word: Vector) -> Vector {
        _mm512_ror_epi64::<BITS>(word)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn shift<const BITS: u32>(word: Vector) -> Vector {
        _mm512_srli_epi64::<BITS>(word)
    }

    /// The block at `offset` of each row as sixteen words, of which each has its lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load(rows: [&Slot; LANES], offset: usize) -> [Vector; 16] {
        let big_endian = _mm512_broadcast_i32x4(_mm_setr_epi8(
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
        ));
        let mut words = [_mm512_setzero_si512(); 16];
        for half in 0..2 {
            let r = rows.map(|row| {
                let bytes = &row[offset + 64 * half..][..64];
                // SAFETY: the slice has the 64 bytes that are read; the load needs no alignment.
                let loaded = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
                _mm512_shuffle_epi8(loaded, big_endian)
            });
            // Words of one parity of two rows, then of all rows, two 128-bit pieces at a time.
            let even = [0, 2, 4, 6].map(|i| _mm512_unpacklo_epi64(r[i], r[i + 1]));
            let odd = [0, 2, 4, 6].map(|i| _mm512_unpackhi_epi64(r[i], r[i + 1]));
            for (parity, pairs) in [even, odd].into_iter().enumerate() {
                let first = _mm512_shuffle_i64x2::<0x88>(pairs[0], pairs[1]);
                let second = _mm512_shuffle_i64x2::<0xdd>(pairs[0], pairs[1]);
                let third = _mm512_shuffle_i64x2::<0x88>(pairs[2], pairs[3]);
                let fourth = _mm512_shuffle_i64x2::<0xdd>(pairs[2], pairs[3]);
                let at = 8 * half + parity;
                words[at] = _mm512_shuffle_i64x2::<0x88>(first, third);
                words[at + 2] = _mm512_shuffle_i64x2::<0x88>(second, fourth);
                words[at + 4] = _mm512_shuffle_i64x2::<0xdd>(first, third);
                words[at + 6] = _mm512_shuffle_i64x2::<0xdd>(second, fourth);
            }
        }
        words
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn lanes(vector: Vector) -> [u64; LANES] {
        let mut words = [0; LANES];
        // SAFETY: the array has the 64 bytes that are written; the store needs no alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha512};

    fn expected(message: &[u8]) -> Digest {
        Sha512::digest(message)[..24].try_into().unwrap()
    }

    fn message(length: usize, seed: usize) -> Vec<u8> {
        (0..length)
            .map(|i| ((i * 31 + seed * 7919) % 251) as u8)
            .collect()
    }

    fn slot(message: &[u8]) -> Slot {
        let mut slot = [0; 2 * BLOCK];
        slot[..message.len()].copy_from_slice(message);
        pad(&mut slot, message.len());
        slot
    }

    #[test]
    fn all_lanes_agree_with_sha2_on_all_lengths_and_numbers_of_messages() {
        for lanes in Lanes::available() {
            for number in 0..20 {
                let messages: Vec<_> = (0..number)
                    .map(|i| message(SHORTEST + (i * 37) % (LONGEST - SHORTEST + 1), i))
                    .collect();
                let slots: Vec<_> = messages.iter().map(|message| slot(message)).collect();
                let mut digests = vec![[0; 24]; number];
                lanes.digest(&slots, None, &mut digests);
                for (message, digest) in messages.iter().zip(digests) {
                    assert_eq!(digest, expected(message), "{lanes:?}");
                }
            }
            for length in SHORTEST..=LONGEST {
                let message = message(length, length);
                let mut digests = [[0; 24]];
                lanes.digest(&[slot(&message)], None, &mut digests);
                assert_eq!(digests[0], expected(&message), "{lanes:?} {length}");
            }
        }
    }

    #[test]
    fn a_second_block_in_common_gives_the_same_digests() {
        for lanes in Lanes::available() {
            for length in [112, 121, 127, 128, 143, 200, 239] {
                let mut messages = vec![message(length, 1); 11];
                for (i, message) in messages.iter_mut().enumerate() {
                    message[10..90].fill(i as u8);
                }
                let mut slots: Vec<_> = messages.iter().map(|message| slot(message)).collect();
                let tail = Tail::of(&slots[0]);
                slots.iter_mut().for_each(|slot| slot[BLOCK..].fill(9));
                let mut digests = vec![[0; 24]; slots.len()];
                lanes.digest(&slots, Some(&tail), &mut digests);
                for (message, digest) in messages.iter().zip(digests) {
                    assert_eq!(digest, expected(message), "{lanes:?} {length}");
                }
            }
        }
    }

    #[test]
    fn a_message_of_any_length_has_its_digest() {
        for length in (0..600).chain([1 << 20]) {
            let message = message(length, 3);
            assert_eq!(digest_of(&message), expected(&message), "{length}");
        }
    }
}
