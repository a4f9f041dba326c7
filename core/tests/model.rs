//! A store against the simplest model there is: a map from names to vectors of bytes, one for what
//! callers see and one for what the last flush made durable. Operations are random; the seed is
//! printed with a failure.

use std::collections::BTreeMap;

use allod_core::{Durability, Options, Platform, Reader, Store};
use allod_mem::{MappedMem, MemPlatform};

type Model = BTreeMap<String, Vec<u8>>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let first = self.next() as u8;
        (0..n).map(|i| first.wrapping_add((i * 7) as u8) ^ (i >> 8) as u8).collect()
    }
    /// Mostly small, sometimes large.
    fn size(&mut self) -> usize {
        let most = [10, 100, 1000, 5000, 20_000, 70_000, 200_000, 1_500_000];
        let upto = most[(self.below(8) * self.below(8) / 8) as usize];
        self.below(upto) as usize
    }
}

fn options() -> Options {
    Options::new().journal_size(256 << 10).inline_limit(64 << 10).memory_budget(1 << 20)
}

fn same<P: Platform>(store: &Store<P>, model: &Model) {
    let names: Vec<String> = store.regions().into_iter().map(|region| region.name).collect();
    assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
    for (name, bytes) in model {
        let reader = store.region(name).expect("a listed region").reader().expect("a reader");
        compare(&reader, bytes, name);
    }
}

fn compare<P: Platform>(reader: &Reader<P>, bytes: &[u8], name: &str) {
    assert_eq!(reader.len(), bytes.len() as u64, "length of {name}");
    let all = reader.read_all().expect("reading");
    if *all != *bytes {
        let at = all.iter().zip(bytes).position(|(a, b)| a != b).expect("a difference");
        panic!("{name} differs at {at} of {}: {} for {}", bytes.len(), all[at], bytes[at]);
    }
    let mut piecewise = Vec::new();
    for chunk in reader.chunks(0, reader.len()).expect("in range") {
        piecewise.extend_from_slice(&chunk.expect("reading"));
    }
    assert!(piecewise == bytes, "chunks of {name} differ");
}

fn history<P: Platform + Clone>(platform: P, seed: u64, steps: u64) {
    let mut random = Random(seed);
    let mut store = options().open(platform.clone()).expect("a new store");
    let mut model = Model::new();
    let mut durable = Model::new();
    let mut readers: Vec<(Reader<P>, Vec<u8>, String)> = Vec::new();
    for step in 0..steps {
        let name = format!("r{}", random.below(6));
        let known = model.get(&name).cloned();
        let region = store.region(&name);
        assert_eq!(region.is_some(), known.is_some(), "seed {seed} step {step}");
        match (random.below(26), region, known) {
            (0..=1, None, _) | (4..=9, None, _) => {
                store.create_region(&name).expect("creating");
                model.insert(name, Vec::new());
            }
            (0, Some(region), _) => {
                region.remove().expect("removing");
                model.remove(&name);
                assert!(region.append(b"x").is_err());
            }
            (1, Some(region), Some(bytes)) => {
                let to = format!("r{}", random.below(6));
                if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(to.clone()) {
                    region.rename(&to).expect("renaming");
                    entry.insert(bytes);
                    model.remove(&name);
                } else if to != name {
                    assert!(region.rename(&to).is_err());
                }
            }
            (2..=8, Some(region), Some(mut bytes)) => {
                let size = random.size();
                let data = random.bytes(size);
                assert_eq!(region.append(&data).expect("appending"), bytes.len() as u64);
                bytes.extend_from_slice(&data);
                model.insert(name, bytes);
            }
            (9..=13, Some(region), Some(mut bytes)) => {
                let at = random.below(bytes.len() as u64 + 1) as usize;
                let size = random.size();
                let data = random.bytes(size);
                region.write_at(at as u64, &data).expect("writing");
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[at..at + data.len()].copy_from_slice(&data);
                model.insert(name, bytes);
            }
            (14, Some(region), Some(mut bytes)) => {
                let at = random.below(bytes.len() as u64 + 1) as usize;
                region.truncate(at as u64).expect("truncating");
                bytes.truncate(at);
                model.insert(name, bytes);
            }
            (15, Some(region), Some(mut bytes)) => {
                let at = random.below(bytes.len() as u64 + 1) as usize;
                let size = random.size();
                let data = random.bytes(size);
                region.truncate_write(at as u64, &data).expect("writing");
                bytes.truncate(at);
                bytes.extend_from_slice(&data);
                model.insert(name, bytes);
            }
            (16, Some(region), Some(bytes)) => {
                if readers.len() > 5 {
                    let at = random.below(6) as usize;
                    let (reader, bytes, name) = readers.swap_remove(at);
                    compare(&reader, &bytes, &name);
                }
                readers.push((region.reader().expect("a reader"), bytes, name));
            }
            (17, Some(region), Some(bytes)) => {
                region.reserve(bytes.len() as u64 + random.below(100_000)).expect("reserving");
            }
            (18..=20, ..) => {
                store.flush().expect("flushing");
                durable = model.clone();
            }
            (21, ..) => {
                store.flush_with(Durability::Process).expect("flushing to the kernel");
                // The memory platform has no power to lose.
                durable = model.clone();
            }
            (22, ..) if random.below(4) == 0 => {
                store.checkpoint().expect("a checkpoint");
                durable = model.clone();
            }
            (23, ..) if random.below(3) == 0 => {
                let mut compaction = store.compaction().expect("a compaction");
                for _ in 0..random.below(4) {
                    compaction.step(random.below(100_000)).expect("a step");
                }
                if random.below(2) == 0 {
                    let done = store.compact().expect("compacting");
                    assert!(done.done);
                }
                durable = model.clone();
                let usage = store.disk_usage().expect("usage");
                let live: usize = model.values().map(Vec::len).sum();
                assert_eq!(usage.live, live as u64);
            }
            (24, ..) => {
                let found = store.verify().expect("verifying");
                assert!(found.is_clean(), "{:?}", found.findings);
            }
            (25, ..) if random.below(8) == 0 => {
                let copy = store.copy_to(MemPlatform::new()).expect("copying");
                durable = model.clone();
                same(&copy, &model);
                drop(copy);
            }
            (25, ..) if random.below(2) == 0 => {
                readers.clear();
                drop(store);
                store = options().open(platform.clone()).expect("reopening");
                model = durable.clone();
            }
            _ => {}
        }
        same(&store, &model);
        for (reader, bytes, name) in &readers {
            compare(reader, bytes, name);
        }
    }
}

#[test]
fn random_histories_match_the_model() {
    let first: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    for seed in first..first + count {
        println!("seed {seed}");
        history(MemPlatform::new(), seed, 150);
        history(MappedMem::new(64 << 20).expect("memory"), seed, 150);
    }
}
