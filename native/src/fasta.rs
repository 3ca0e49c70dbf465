//! A plain FASTA, read by position with the arithmetic of its .fai.
//!
//! The file is read by `pread` into a small window, never mapped: where a mapped file is truncated, the next
//! access kills the process with SIGBUS, and here the read comes out short, which is an error of the run
//! alone. A map would be no faster: its page faults take as long as the copy. The window follows the records
//! and grows while they lie close together.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes that a window has at first and at most; each read that follows the one before doubles it.
const FIRST: usize = 512;
const MOST: usize = 1 << 18;
/// Bytes before the wanted ones that are read with them: insertions and deletions look back.
const BEFORE: u64 = 64;

/// Device, inode, size in bytes, and time of the last change in nanoseconds.
pub type Identity = (u64, u64, u64, i128);

pub struct Fasta {
    file: File,
    identity: Identity,
}

impl Fasta {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity(&file)?;
        Ok(Self { file, identity })
    }

    /// What told the file from another one, or from another state of it, when it was opened.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

fn identity(file: &File) -> io::Result<Identity> {
    let status = file.metadata()?;
    let nanoseconds = i128::from(status.mtime()) * 1_000_000_000 + i128::from(status.mtime_nsec());
    Ok((status.dev(), status.ino(), status.size(), nanoseconds))
}

/// Why bases cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file is not what it was when it was opened.
    Changed,
    System(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Where a sequence lies in the file: one line of the .fai.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bases.
    pub length: u64,
    /// Byte of the first base.
    pub offset: u64,
    pub line_bases: u64,
    /// Bytes of a line, its end included.
    pub line_width: u64,
}

impl Layout {
    fn byte_of(&self, position: u64) -> u64 {
        self.offset + position + position / self.line_bases * (self.line_width - self.line_bases)
    }
}

/// The part of the file that was read last.
#[derive(Default)]
pub struct Window {
    begin: u64,
    bytes: Vec<u8>,
    size: usize,
}

impl Window {
    /// Append the upper-case bases of [start, end) to `bases`, of which none lie beyond the sequence.
    ///
    /// Fails where the file cannot be read, or has been changed since it was opened.
    pub fn fetch(
        &mut self,
        fasta: &Fasta,
        layout: &Layout,
        start: u64,
        end: u64,
        bases: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        debug_assert!(end <= layout.length);
        if start >= end {
            return Ok(());
        }
        let bytes = self.bytes(fasta, layout.byte_of(start), layout.byte_of(end - 1) + 1)?;
        let from = bases.len();
        // Whole lines follow the rest of the first one.
        let line_end = layout.line_width - layout.line_bases;
        let mut left = (end - start) as usize;
        let mut in_line = (layout.line_bases - start % layout.line_bases) as usize;
        let mut at = 0;
        while left > 0 {
            let count = left.min(in_line);
            bases.extend_from_slice(&bytes[at..at + count]);
            at += count + line_end as usize;
            left -= count;
            in_line = layout.line_bases as usize;
        }
        bases[from..].make_ascii_uppercase();
        Ok(())
    }

    /// The bytes [begin, end) of the file.
    fn bytes(&mut self, fasta: &Fasta, begin: u64, end: u64) -> Result<&[u8], ReadError> {
        let held = self.begin + self.bytes.len() as u64;
        if begin < self.begin || end > held {
            let follows = begin >= self.begin && begin <= held + 2 * self.bytes.len() as u64;
            self.size = if follows {
                (2 * self.size).clamp(FIRST, MOST)
            } else {
                FIRST
            };
            let from = begin.saturating_sub(BEFORE);
            let wanted = usize::try_from(end - from).map_err(io::Error::other)?;
            self.read(fasta, from, wanted)?;
        }
        let at = (begin - self.begin) as usize;
        Ok(&self.bytes[at..at + (end - begin) as usize])
    }

    /// Fill the window from the byte `from` on with `wanted` bytes at least.
    fn read(&mut self, fasta: &Fasta, from: u64, wanted: usize) -> Result<(), ReadError> {
        self.bytes.resize(self.size.max(wanted), 0);
        let mut filled = 0;
        let read = loop {
            match fasta
                .file
                .read_at(&mut self.bytes[filled..], from + filled as u64)
            {
                Ok(0) => break Err(ReadError::Changed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error.into()),
            }
            if filled >= wanted {
                break Ok(());
            }
        };
        let read = read.and_then(|()| match identity(&fasta.file)? == fasta.identity {
            true => Ok(()),
            false => Err(ReadError::Changed),
        });
        // What was read before a failure is not to be used.
        self.bytes.truncate(if read.is_ok() { filled } else { 0 });
        self.begin = from;
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("anyvar-step-{}-{name}.fa", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    fn sequence(length: usize) -> Vec<u8> {
        (0..length).map(|i| b"ACGTNacgtn"[(i * i + i / 7) % 10]).collect()
    }

    #[test]
    fn all_intervals_have_their_bases_whatever_the_line_ends() {
        for (number, line_end) in [&b"\n"[..], b"\r\n"].into_iter().enumerate() {
            let bases = sequence(997);
            let mut content = b">x\n".to_vec();
            for line in bases.chunks(61) {
                content.extend_from_slice(line);
                content.extend_from_slice(line_end);
            }
            let path = written(&format!("lines{number}"), &content);
            let fasta = Fasta::open(&path).unwrap();
            let layout = Layout {
                length: 997,
                offset: 3,
                line_bases: 61,
                line_width: 61 + line_end.len() as u64,
            };
            let mut window = Window::default();
            let mut found = Vec::new();
            for start in (0..997).rev().step_by(13).chain((0..997).step_by(7)) {
                for length in [0, 1, 2, 60, 61, 62, 300] {
                    let end = (start + length).min(997);
                    found.clear();
                    window
                        .fetch(&fasta, &layout, start as u64, end as u64, &mut found)
                        .unwrap();
                    assert_eq!(found, bases[start..end].to_ascii_uppercase());
                }
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_changed_is_an_error() {
        let mut content = b">x\n".to_vec();
        content.extend(sequence(300_000));
        let path = written("changed", &content);
        let layout = Layout {
            length: 300_000,
            offset: 3,
            line_bases: 300_000,
            line_width: 300_000,
        };
        let mut found = Vec::new();
        let changes: [fn(&Path); 3] = [
            |path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(5_000)
                    .unwrap()
            },
            |path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(500_000)
                    .unwrap()
            },
            |path| {
                let file = File::options().write(true).open(path).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            },
        ];
        for change in changes {
            std::fs::write(&path, &content).unwrap();
            let fasta = Fasta::open(&path).unwrap();
            let mut window = Window::default();
            window.fetch(&fasta, &layout, 0, 1, &mut found).unwrap();
            change(&path);
            let error = window
                .fetch(&fasta, &layout, 200_000, 200_001, &mut found)
                .unwrap_err();
            assert!(matches!(error, ReadError::Changed));
        }
        std::fs::remove_file(path).unwrap();
    }
}
