//! The decoders, for fuzzers: each takes any bytes, reads them to the end, and asserts that what it
//! read can be written and read again (I13).
//!
//! Not a part of the interface: it exists with the feature `fuzzing` and in the crate's own tests.
//! All functions panic on a bug of the decoders and on nothing else. What a fuzzer cannot guess is
//! made right before the second of two attempts: checksums, salts, lengths and sequence numbers. So
//! the rules behind them are reached as well.

#![allow(missing_docs, clippy::missing_panics_doc)]

use alloc::vec::Vec;

use crate::checkpoint::{self, Checkpoint, CheckpointWriter};
use crate::codec;
use crate::error::Damage;
use crate::journal::{self, Batch, BatchHeader, BatchWriter, Entry, Mark};
use crate::run::{FIRST_PAGE, Run, max_pages};
use crate::superblock::{Superblock, salt_of};

const RECORD_LEN: usize = 512;
const CHECKPOINT_HEADER_LEN: usize = 76;

/// A slot page of any length.
pub fn superblock(bytes: &[u8]) {
    decode_superblock(bytes);
    let mut sealed = bytes.to_vec();
    for record in sealed.chunks_exact_mut(RECORD_LEN) {
        let (id, generation) = (number::<16>(record, 40), number::<8>(record, 56));
        codec::patch(record, 0, b"allod\r\n\x1a");
        codec::patch(record, 64, &salt_of(id, generation as u64).to_le_bytes());
        let crc = crc32fast::hash(record.get(..RECORD_LEN - 4).unwrap_or_default());
        codec::patch(record, RECORD_LEN - 4, &crc.to_le_bytes());
    }
    decode_superblock(&sealed);
}

fn decode_superblock(bytes: &[u8]) {
    let Ok(found) = Superblock::decode_page(bytes) else { return };
    assert!(max_pages(found.page_size) >= found.checkpoint.end().max(found.journal.end()));
    let page = found.encode_page();
    assert_eq!(page.len(), found.page_size as usize);
    assert_eq!(Superblock::decode_page(&page), Ok(found));
}

/// Six bytes on where a checkpoint is said to lie and what lies around it, then the checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    let Some((setting, bytes)) = bytes.split_first_chunk::<6>() else { return };
    let [shift, start, gap, journal, generation, surplus] = *setting;
    let page_size = 4096 << (shift % 5);
    let pages = (bytes.len() as u64).div_ceil(page_size.into()).max(1);
    let store_id = number::<16>(bytes, 8);
    let generation = u64::from(generation) + 1;
    let run = Run { start: FIRST_PAGE + u64::from(start), pages };
    let superblock = Superblock {
        page_size,
        compatible: 0,
        read_only_compatible: 0,
        incompatible: 0,
        store_id,
        generation,
        salt: salt_of(store_id, generation),
        checkpoint: run,
        checkpoint_len: (bytes.len() as u64).saturating_sub(u64::from(surplus % 4)),
        journal: Run { start: run.end() + u64::from(gap), pages: u64::from(journal) + 1 },
        superseded: 0,
    };
    decode_checkpoint(bytes, &superblock);
    let mut sealed = bytes.to_vec();
    codec::patch(&mut sealed, 0, &checkpoint::MAGIC);
    codec::patch(&mut sealed, 24, &generation.to_le_bytes());
    codec::patch(&mut sealed, 32, &superblock.salt.to_le_bytes());
    codec::patch(&mut sealed, 64, &superblock.checkpoint_len.to_le_bytes());
    let whole = sealed.get(..superblock.checkpoint_len as usize).unwrap_or_default();
    let crc = codec::checksum(whole, CHECKPOINT_HEADER_LEN - 4);
    codec::patch(&mut sealed, CHECKPOINT_HEADER_LEN - 4, &crc.to_le_bytes());
    decode_checkpoint(&sealed, &superblock);
}

fn decode_checkpoint(bytes: &[u8], superblock: &Superblock) {
    Checkpoint::is_of_new_store(bytes);
    let Ok(found) = Checkpoint::decode(bytes, superblock) else { return };
    let count = found.region_count();
    assert!(count <= bytes.len() as u64 / 4, "a count that the bytes cannot hold");
    let Superblock { store_id, generation, salt, page_size, .. } = *superblock;
    let mut writer = CheckpointWriter::new(store_id, generation, salt, page_size, found.next_id());
    let mut regions = found.regions();
    let (mut seen, mut end) = (0, FIRST_PAGE);
    for region in &mut regions {
        let Ok(region) = region else {
            assert!(regions.next().is_none(), "something behind damage");
            assert!(regions.pages().is_err(), "pages behind damage");
            return;
        };
        seen += 1;
        assert!(region.id < found.next_id() && codec::is_name(region.name));
        assert!(region.len <= region.run.bytes(page_size));
        if !region.run.is_empty() {
            assert!(end <= region.run.start && region.run.end() <= max_pages(page_size));
            assert!(!region.run.overlaps(&superblock.checkpoint));
            assert!(!region.run.overlaps(&superblock.journal));
            end = region.run.end();
        }
        writer.region(region.id, region.name, region.run, region.len);
    }
    assert_eq!(seen, count);
    let mut next = FIRST_PAGE;
    for page in regions.pages().expect("no damage was told") {
        let Ok((page, image)) = page else { return };
        assert!(next <= page && page < max_pages(page_size));
        assert!(image.len() <= page_size as usize);
        next = page + 1;
        writer.page(page, image);
    }
    // There is one encoding of everything.
    let again = writer.finish();
    assert_eq!(bytes.get(..again.len()), Some(&again[..]));
}

/// Two bytes on the page size and what is expected, then a batch, or a mark behind one.
pub fn batch(bytes: &[u8]) {
    let Some((setting, bytes)) = bytes.split_first_chunk::<2>() else { return };
    let [shift, surplus] = *setting;
    let page_size = 4096 << (shift % 5);
    decode_batch(bytes, page_size);
    let len = (bytes.len() as u64).saturating_sub(u64::from(surplus % 4));
    let mut sealed = bytes.to_vec();
    codec::patch(&mut sealed, 0, b"allodbat");
    codec::patch(&mut sealed, 56, &len.to_le_bytes());
    let crc = codec::checksum(sealed.get(..len as usize).unwrap_or_default(), 68);
    codec::patch(&mut sealed, 68, &crc.to_le_bytes());
    decode_batch(&sealed, page_size);
    decode_mark(bytes);
    let mut sealed = bytes.get(..Mark::LEN).unwrap_or_default().to_vec();
    codec::patch(&mut sealed, 0, b"allodack");
    let crc = codec::checksum(&sealed, Mark::LEN - 4);
    codec::patch(&mut sealed, Mark::LEN - 4, &crc.to_le_bytes());
    decode_mark(&sealed);
    assert_eq!(Mark::decode(&sealed).is_some(), sealed.len() == Mark::LEN);
}

fn decode_mark(bytes: &[u8]) {
    let Some(mark) = Mark::decode(bytes) else { return };
    assert_eq!(bytes.get(..Mark::LEN), Some(&mark.encode()[..]));
}

fn decode_batch(bytes: &[u8], page_size: u32) {
    let Some(header) = BatchHeader::decode(bytes) else { return };
    let BatchHeader { store_id, salt, sequence, durable, .. } = header;
    assert!(Batch::decode(bytes, store_id ^ 1, salt, sequence, page_size).is_err());
    assert!(Batch::decode(bytes, store_id, salt ^ 1, sequence, page_size).is_err());
    assert!(Batch::decode(bytes, store_id, salt, sequence ^ 1, page_size).is_err());
    let Ok(found) = Batch::decode(bytes, store_id, salt, sequence, page_size) else { return };
    assert!(found.len() <= bytes.len() as u64 && found.len() >= journal::HEADER_LEN as u64);
    let (id, offset) = (found.next_id(), 1 << 40);
    let mut writer = BatchWriter::new(store_id, salt, sequence, durable, id, page_size);
    let told: Vec<Result<Entry<'_>, Damage>> = found.at(offset).entries().collect();
    let whole = told.iter().all(Result::is_ok);
    for (at, entry) in told.iter().enumerate() {
        match entry {
            Ok(Entry::Put { id, created, name, run, len }) => {
                assert!(*id < found.next_id() && (name.is_some() || !created));
                assert!(name.is_none_or(codec::is_name));
                assert!(len.unwrap_or(0) <= run.map_or(u64::MAX, |run| run.bytes(page_size)));
                writer.put(*id, *created, *name, *run, *len);
            }
            Ok(Entry::Remove { id }) => {
                assert!(*id < found.next_id());
                writer.remove(*id);
            }
            Ok(Entry::Bytes { page, offset, full, data }) => {
                assert!((FIRST_PAGE..max_pages(page_size)).contains(page));
                assert!(u64::from(*offset) + data.len() as u64 <= page_size.into());
                writer.bytes(*page, *offset, *full, data);
            }
            Err(damage) => {
                assert_eq!(at + 1, told.len(), "something behind damage");
                assert!((offset..=offset + found.len()).contains(&damage.offset));
            }
        }
    }
    if whole {
        let again = writer.finish();
        assert_eq!(bytes.get(..again.len()), Some(&again[..]));
        assert_eq!(found.len(), again.len() as u64);
    }
}

/// The `N` bytes at `at` as a number; zeros where there are none.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u128 {
    let field = bytes.get(at..).and_then(|tail| tail.get(..N)).unwrap_or_default();
    field.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{fs, path::Path, println};

    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n.max(1) as u64) as usize
        }

        /// Changes, inserts, removes or doubles a few bytes.
        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                let end = (at + 1 + self.below(8)).min(bytes.len());
                let value = [0, 1, 0x7f, 0x80, 0xff, self.below(256) as u8];
                let value = *value.get(self.below(6)).unwrap_or(&0);
                match self.below(5) {
                    0 => bytes.insert(at, value),
                    1 => drop(bytes.drain(at..end)),
                    2 => {
                        let piece = bytes.get(at..end).unwrap_or_default().to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ => codec::patch(bytes, at, &[value]),
                }
            }
        }
    }

    /// What the fuzzers found worth keeping, what once failed, and the seeds given.
    fn inputs(target: &str, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let mut inputs = seeds.to_vec();
        for kind in ["corpus", "regressions"] {
            let Ok(files) = fs::read_dir(root.join(kind).join(target)) else { continue };
            let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
            paths.sort();
            inputs.extend(paths.iter().map(|path| fs::read(path).expect("a readable input")));
        }
        inputs
    }

    fn smoke(target: &str, seeds: &[Vec<u8>], body: fn(&[u8])) {
        let inputs = inputs(target, seeds);
        inputs.iter().for_each(|input| body(input));
        let mut random = Random(0x616c_6c6f_6421);
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        for round in 0..rounds {
            let mut bytes = inputs.get(random.below(inputs.len())).cloned().unwrap_or_default();
            random.mutate(&mut bytes);
            let shown = bytes.clone();
            let result = std::panic::catch_unwind(|| body(&bytes));
            if let Err(panic) = result {
                println!("round {round}: {shown:02x?}");
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn slot(page_size: u32, generation: u64) -> Superblock {
        Superblock {
            page_size,
            compatible: 3,
            read_only_compatible: 0,
            incompatible: 0,
            store_id: 0,
            generation,
            salt: salt_of(0, generation),
            checkpoint: Run { start: 2, pages: 1 },
            checkpoint_len: 400,
            journal: Run { start: 3, pages: 1 },
            superseded: 0,
        }
    }

    fn checkpoint_seed() -> Vec<u8> {
        let mut writer = CheckpointWriter::new(0, 1, salt_of(0, 1), 4096, 20);
        writer.region(7, "none", Run::default(), 0);
        writer.region(3, "täg", Run { start: 4, pages: 2 }, 5000);
        writer.region(19, "b", Run { start: 300, pages: 1 << 20 }, 1);
        writer.page(4, b"carried");
        writer.page(301, b"");
        [&[0, 0, 0, 0, 0, 0][..], &writer.finish()].concat()
    }

    fn batch_seed() -> Vec<u8> {
        let mut writer = BatchWriter::new(5, 6, 2, 1, 300, 4096);
        let run = Run { start: 9, pages: 16 };
        writer.put(299, true, Some("täg"), Some(run), Some(65_536));
        writer.put(4, false, None, Some(Run::default()), None);
        writer.remove(200);
        writer.bytes(9, 0, true, b"xyz");
        writer.bytes(9, 3, false, b"ab");
        [&[0, 0][..], &writer.finish()].concat()
    }

    #[test]
    fn superblocks() {
        let short = |page: Vec<u8>| page.get(..2 * RECORD_LEN).unwrap_or_default().to_vec();
        let seeds = [slot(4096, 1), slot(65_536, 9)].map(|slot| short(slot.encode_page()));
        smoke("superblock", &seeds, superblock);
    }

    #[test]
    fn checkpoints() {
        smoke("checkpoint", &[checkpoint_seed()], checkpoint);
    }

    #[test]
    fn batches() {
        smoke("batch", &[batch_seed()], batch);
    }

    /// The seeds decode as they are, so that the assertions behind decoding are reached.
    #[test]
    fn seeds_are_whole() {
        let seed = batch_seed();
        let body = seed.get(2..).unwrap_or_default();
        let entries = Batch::decode(body, 5, 6, 2, 4096).expect("a batch").entries();
        assert_eq!(entries.filter(Result::is_ok).count(), 5);
        let seed = checkpoint_seed();
        let body = seed.get(6..).unwrap_or_default();
        let checkpoint_len = body.len() as u64;
        let superblock = Superblock { checkpoint_len, ..slot(4096, 1) };
        let found = Checkpoint::decode(body, &superblock).expect("a checkpoint");
        assert_eq!(found.regions().filter(Result::is_ok).count(), 3);
        assert_eq!(found.regions().pages().expect("pages").filter(Result::is_ok).count(), 2);
    }
}
