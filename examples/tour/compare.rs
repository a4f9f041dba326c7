//! Compares a region with the file it came from, with the region's changes applied to the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use allod::unix::UnixPlatform;
use allod::{Error, Reader};

use crate::change::Change;
use crate::tree::{self, Stamp};

/// How many bytes are read and compared at once.
pub(crate) const PIECE: usize = 256 << 10;

/// How a comparison ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every byte is the expected one.
    Same,
    /// The region is not what it must be, and the file is still what it was.
    Differs(String),
    /// The file is gone, cannot be read any more, or was changed meanwhile.
    SourceChanged,
}

/// Compares the region behind `reader` with the first `len` bytes of the file called `name`, which
/// was as `stamp` tells when they were stored, after `change`.
pub(crate) fn compare(
    root: &Path,
    name: &str,
    stamp: Stamp,
    len: u64,
    change: &Change,
    reader: &Reader<UnixPlatform>,
) -> Result<Outcome, Error> {
    let Ok((file, now)) = tree::open(root, name) else { return Ok(Outcome::SourceChanged) };
    if now != stamp {
        return Ok(Outcome::SourceChanged);
    }
    let expected_len = len + change.append;
    if reader.len() != expected_len {
        let why = format!("it has {} bytes instead of {expected_len}", reader.len());
        return Ok(Outcome::Differs(why));
    }
    let mut expected = Expected::new(&file, len, change);
    let mut buffer = vec![0; PIECE.min(expected_len as usize)];
    let mut offset = 0;
    while offset < expected_len {
        let n = PIECE.min((expected_len - offset) as usize);
        let Some(piece) = buffer.get_mut(..n) else { break };
        if expected.fill(offset, piece).is_err() {
            return Ok(Outcome::SourceChanged);
        }
        let found = reader.read(offset, n as u64)?;
        if *found != *piece {
            let at = found.iter().zip(piece.iter()).take_while(|(a, b)| a == b).count() as u64;
            // The file may have been written to between the stamp and the reading.
            return Ok(match tree::stamp(&file) {
                Ok(still) if still == stamp => {
                    Outcome::Differs(format!("byte {} is another one", offset + at))
                }
                _ => Outcome::SourceChanged,
            });
        }
        offset += n as u64;
    }
    Ok(Outcome::Same)
}

/// The bytes that a region must have.
struct Expected<'a> {
    source: &'a File,
    len: u64,
    overwritten: Option<(u64, Vec<u8>)>,
    appended: Vec<u8>,
}

impl<'a> Expected<'a> {
    fn new(source: &'a File, len: u64, change: &Change) -> Self {
        let (overwritten, appended) = (change.overwritten(len), change.appended());
        Self { source, len, overwritten, appended }
    }

    /// Fills `piece` with the bytes from `offset` on. Pieces are asked for in order.
    fn fill(&mut self, offset: u64, piece: &mut [u8]) -> io::Result<()> {
        let from_source = self.len.saturating_sub(offset).min(piece.len() as u64) as usize;
        let (source, added) = piece.split_at_mut(from_source);
        self.source.read_exact(source)?;
        if let Some((at, bytes)) = &self.overwritten {
            lay_over(source, offset, *at, bytes);
        }
        lay_over(added, offset + from_source as u64, self.len, &self.appended);
        Ok(())
    }
}

/// Writes `bytes`, which begin at `at`, over those of them that `piece`, which begins at `offset`,
/// has room for.
fn lay_over(piece: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let into = at.saturating_sub(offset) as usize;
    let skipped = offset.saturating_sub(at) as usize;
    for (to, from) in piece.iter_mut().skip(into).zip(bytes.iter().skip(skipped)) {
        *to = *from;
    }
}
