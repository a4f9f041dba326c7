//! Any bytes as operations on a store with tiny limits, against a plain model: a map from names to
//! vectors of bytes, one for what callers see and one for what the last flush made durable.
//!
//! The first byte chooses the options and the platform; each four bytes after it are an operation:
//! its kind, a region, and two numbers that stand for sizes and places. So every input is valid, and
//! a change of one byte is a change of one operation.

use std::collections::BTreeMap;

use allod_core::{Durability, Error, Options, Platform, Reader, Store};
use allod_mem::{MappedMem, MemPlatform};

type Model = BTreeMap<String, Vec<u8>>;

/// More operations than this are left out.
const MAX_OPERATIONS: usize = 200;
/// No region grows longer than this.
const MAX_LEN: usize = 1 << 20;

/// Does what `input` says; panics where store and model differ.
pub fn run(input: &[u8]) {
    let Some((setting, operations)) = input.split_first() else { return };
    let options = Options::new()
        .journal_size([16, 64, 256, 1024][usize::from(setting & 3)] << 10)
        .inline_limit([0, 4, 16, 128][usize::from(setting >> 2 & 3)] << 10)
        .memory_budget([0, 32 << 10, 256 << 10, 4 << 20][usize::from(setting >> 4 & 3)]);
    let operations = operations.chunks_exact(4).take(MAX_OPERATIONS);
    if setting & 0x40 == 0 {
        History::new(options, MemPlatform::new().with_entropy(1)).run(operations);
    } else {
        let platform = MappedMem::new(64 << 20).expect("memory");
        History::new(options, platform).run(operations);
    }
}

struct History<P: Platform + Clone> {
    options: Options,
    platform: P,
    store: Option<Store<P>>,
    model: Model,
    durable: Model,
    readers: Vec<(Reader<P>, Vec<u8>)>,
}

/// A number of bytes: small ones finely, large ones coarsely.
fn size(number: u8) -> usize {
    let most = [16, 200, 3000, 4097, 9000, 30_000, 70_000, 300_000];
    most[usize::from(number >> 5)] * usize::from(number & 31) / 31
}

fn bytes(first: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| first.wrapping_add((at * 7) as u8) ^ (at >> 8) as u8).collect()
}

impl<P: Platform + Clone> History<P> {
    fn new(options: Options, platform: P) -> Self {
        let store = Some(options.open(platform.clone()).expect("a new store"));
        let (model, durable) = (Model::new(), Model::new());
        Self { options, platform, store, model, durable, readers: Vec::new() }
    }

    fn store(&self) -> &Store<P> {
        self.store.as_ref().expect("open between operations")
    }

    fn run<'a>(mut self, operations: impl Iterator<Item = &'a [u8]>) {
        for (number, operation) in operations.enumerate() {
            if let [kind, region, a, b] = *operation {
                self.operation(number as u8, kind, &format!("r{}", region % 5), region / 5, a, b);
            }
        }
        self.compare_all();
        self.verify();
        self.reopen();
        self.compare_all();
        self.verify();
    }

    fn operation(&mut self, seed: u8, kind: u8, name: &str, to: u8, a: u8, b: u8) {
        match kind % 24 {
            17 | 18 => {
                self.store().flush().expect("flushing");
                self.durable = self.model.clone();
            }
            19 => {
                // Memory has no power to lose.
                self.store().flush_with(Durability::Process).expect("flushing to the kernel");
                self.durable = self.model.clone();
            }
            20 => {
                self.store().checkpoint().expect("a checkpoint");
                self.durable = self.model.clone();
            }
            21 => self.compact(a, b),
            22 => self.verify(),
            23 => self.reopen(),
            kind => self.region_operation(seed, kind, name, to, a, b),
        }
        if kind % 24 >= 17 {
            self.compare_all();
        } else if let Some(bytes) = self.model.get(name) {
            self.compare(name, bytes);
        }
    }

    fn region_operation(&mut self, seed: u8, kind: u8, name: &str, to: u8, a: u8, b: u8) {
        let region = self.store().region(name);
        let Some(mut known) = self.model.get(name).cloned() else {
            assert!(region.is_none(), "{name} was not removed");
            self.store().create_region(name).expect("creating");
            self.model.insert(name.into(), Vec::new());
            return;
        };
        let region = region.expect("a region");
        let at = known.len() * usize::from(b) / 255;
        let mut data = bytes(seed ^ a, size(a));
        data.truncate(MAX_LEN - at.min(MAX_LEN));
        match kind {
            0 => {
                region.remove().expect("removing");
                self.model.remove(name);
                assert!(matches!(region.append(b"x"), Err(Error::RegionRemoved { .. })));
                return;
            }
            1 => {
                let to = format!("r{}", to % 5);
                if to != name && self.model.contains_key(&to) {
                    assert!(matches!(region.rename(&to), Err(Error::RegionExists { .. })));
                } else {
                    region.rename(&to).expect("renaming");
                    self.model.remove(name);
                    self.model.insert(to, known);
                }
                return;
            }
            2..=6 => {
                data.truncate(MAX_LEN - known.len().min(MAX_LEN));
                assert_eq!(region.append(&data).expect("appending"), known.len() as u64);
                known.extend_from_slice(&data);
            }
            7..=10 => {
                region.write_at(at as u64, &data).expect("writing");
                known.resize(known.len().max(at + data.len()), 0);
                known[at..at + data.len()].copy_from_slice(&data);
            }
            11 => {
                region.truncate(at as u64).expect("truncating");
                known.truncate(at);
            }
            12 => {
                region.truncate_write(at as u64, &data).expect("writing");
                known.truncate(at);
                known.extend_from_slice(&data);
            }
            13 => {
                region.replace(&data).expect("replacing");
                known = data;
            }
            14 => {
                if self.readers.len() > 3 {
                    let (reader, bytes) = self.readers.swap_remove(usize::from(to) % 4);
                    compare(&reader, &bytes);
                }
                self.readers.push((region.reader().expect("a reader"), known));
                return;
            }
            15 => region.reserve((known.len() + size(a)) as u64).expect("reserving"),
            _ => {
                let len = size(a).min(known.len() - at);
                let found = region.read(at as u64, len as u64).expect("reading");
                assert!(found == known[at..at + len], "a part of {name}");
                assert!(region.read(at as u64, (known.len() - at) as u64 + 1).is_err());
            }
        }
        self.model.insert(name.into(), known);
    }

    fn compact(&mut self, a: u8, b: u8) {
        let mut compaction = self.store().compaction().expect("a compaction");
        for _ in 0..b % 4 {
            compaction.step(size(a) as u64).expect("a step");
        }
        if b & 4 != 0 {
            assert!(self.store().compact().expect("compacting").done);
        }
        self.durable = self.model.clone();
    }

    fn verify(&self) {
        let found = self.store().verify().expect("verifying");
        assert!(found.is_clean(), "{:?}", found.findings);
    }

    /// As after the death of the process: what was not flushed is gone.
    fn reopen(&mut self) {
        self.readers.clear();
        self.store = None;
        self.store = Some(self.options.open(self.platform.clone()).expect("reopening"));
        self.model = self.durable.clone();
    }

    fn compare_all(&self) {
        let names: Vec<String> = self.store().regions().into_iter().map(|r| r.name).collect();
        assert!(names.iter().eq(self.model.keys()), "{names:?} for {:?}", self.model.keys());
        self.model.iter().for_each(|(name, bytes)| self.compare(name, bytes));
        self.readers.iter().for_each(|(reader, bytes)| compare(reader, bytes));
    }

    fn compare(&self, name: &str, bytes: &[u8]) {
        let region = self.store().region(name).expect("a region");
        compare(&region.reader().expect("a reader"), bytes);
    }
}

fn compare<P: Platform>(reader: &Reader<P>, bytes: &[u8]) {
    assert_eq!(reader.len(), bytes.len() as u64);
    let mut at = 0;
    for chunk in reader.chunks(0, reader.len()).expect("in range") {
        let chunk = chunk.expect("reading");
        assert!(bytes.get(at..at + chunk.len()) == Some(&chunk[..]), "bytes from {at} on");
        at += chunk.len();
    }
    assert_eq!(at, bytes.len());
}
