//! Any bytes as the file of a store: opening gives an error, or a store that works.
//!
//! Panics unless: opening takes memory in proportion to the file (promise 5, I13); what a read-only
//! opening gives, one for writing gives too, and neither writes; every region can be read; the store
//! verifies; regions can be changed, flushed, compacted and opened again, with the bytes that a model
//! expects.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use allod_core::{Create, Error, Options, Platform, Result, Store};
use allod_mem::MemPlatform;

use crate::image;
use crate::memory::peak_of;

/// Memory that opening may take for each byte of the file. The densest there is: an entry of four
/// bytes in a batch gives a page of one byte, with its places in two maps.
const FACTOR: u64 = 64;
/// Memory that opening may take for nothing.
const CONSTANT: u64 = 64 << 10;
/// What the changes that [`work`] makes may take on top of that.
const WORK: u64 = 8 << 20;

type Model = BTreeMap<String, Vec<u8>>;

/// Opens the file that `input` stands for, see [`image`].
pub fn run(input: &[u8]) {
    let platform = image::platform(input);
    let len = platform.len().expect("a length");
    let bound = CONSTANT + FACTOR * len;
    let before = (len <= 1 << 20).then(|| platform.to_bytes().expect("memory"));
    let options = Options::new()
        .create(Create::Never)
        .journal_size(16 << 10)
        .inline_limit(8 << 10)
        .memory_budget(64 << 10);
    let read_only = options.clone().read_only(true);
    let (result, peak) = peak_of(|| read_only.open(platform.clone()));
    assert!(peak <= bound, "opening {len} bytes took {peak} of memory");
    let expected = match result {
        Ok(store) => {
            let model = contents(&store);
            assert!(store.create_region("x").is_err());
            Ok(model)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Err(error)
        }
    };
    let (result, peak) = peak_of(|| options.open(platform.clone()));
    assert!(peak <= bound, "opening {len} bytes for writing took {peak} of memory");
    if let Some(before) = before {
        assert!(platform.to_bytes().expect("memory") == before, "opening wrote something");
    }
    match (result, expected) {
        (Ok(store), Ok(model)) => {
            assert_same(&store, &model);
            let found = store.verify().expect("reading");
            assert!(found.is_clean(), "at first: {:?}", found.findings);
            let ((), peak) = peak_of(|| work(&options, &platform, store, model));
            assert!(peak <= WORK + 2 * bound, "working on {len} bytes took {peak} of memory");
        }
        (Err(Error::Newer { .. }), Ok(_)) => {}
        (Err(writing), Err(reading)) => assert_eq!(writing, reading),
        (Ok(_), Err(error)) => panic!("opens for writing, but not for reading: {error}"),
        (Err(error), Ok(_)) => panic!("opens for reading, but not for writing: {error}"),
    }
    // What an unfinished creation left becomes a store; nothing else does.
    if let Err(Error::Unfinished | Error::NoStore) = options.open(platform.clone()) {
        let store = options.create(Create::IfMissing).open(platform).expect("a new store");
        assert!(store.is_empty());
    }
}

fn contents(store: &Store<MemPlatform>) -> Model {
    let read = |name: String| {
        let bytes = store.region(&name).expect("a listed region").read_all().expect("reading");
        (name, bytes)
    };
    store.regions().into_iter().map(|region| read(region.name)).collect()
}

fn assert_same(store: &Store<MemPlatform>, model: &Model) {
    let found = contents(store);
    assert!(found.keys().eq(model.keys()), "{:?} for {:?}", found.keys(), model.keys());
    for (name, bytes) in model {
        assert!(found[name] == *bytes, "bytes of {name:?}");
    }
}

/// Whether it was done; panics if the error is none that a strange but valid file justifies.
fn done<T>(result: Result<T>) -> bool {
    match result {
        Ok(_) => true,
        // A region may claim nearly all the places that a file can have.
        Err(Error::TooLarge { .. } | Error::Platform(_) | Error::OutOfMemory { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn work(options: &Options, platform: &MemPlatform, store: Store<MemPlatform>, model: Model) {
    let durable = model.clone();
    match change(&store, model) {
        Some(model) => {
            drop(store);
            let store = options.open(platform.clone()).expect("opening again");
            assert_same(&store, &model);
            assert!(store.verify().expect("reading").is_clean());
        }
        None => {
            drop(store);
            let store = options.open(platform.clone()).expect("opening again");
            let found = contents(&store);
            // A change that did not succeed, or all of them up to some flush.
            assert!(found == durable || store.verify().expect("reading").is_clean());
        }
    }
}

/// Changes regions in every way; answers what is durable then, unless there was no room for it.
fn change(store: &Store<MemPlatform>, mut model: Model) -> Option<Model> {
    let names: Vec<String> = model.keys().take(6).cloned().collect();
    let frozen = match names.first() {
        Some(name) => Some((store.region(name)?.reader().expect("a reader"), model[name].clone())),
        None => None,
    };
    for (at, name) in names.iter().enumerate() {
        let region = store.region(name).expect("a region");
        let bytes = model.get_mut(name).expect("a model");
        let half = bytes.len() / 2;
        let ok = match at % 4 {
            0 => {
                let ok = done(region.append(&[7; 300]));
                bytes.extend([7; 300]);
                ok
            }
            1 => {
                let ok = done(region.write_at(half as u64, b"fuzz"));
                bytes.resize(bytes.len().max(half + 4), 0);
                bytes[half..half + 4].copy_from_slice(b"fuzz");
                ok
            }
            2 => {
                bytes.truncate(half);
                done(region.truncate(half as u64))
            }
            _ => {
                model.remove(name);
                done(region.remove())
            }
        };
        if !ok {
            return None;
        }
    }
    let name = String::from("a name that no seed has");
    if let Entry::Vacant(entry) = model.entry(name) {
        let Ok(region) = store.create_region(entry.key()) else { return None };
        if !done(region.append(&[9; 20_000])) {
            return None;
        }
        entry.insert(vec![9; 20_000]);
    }
    let flushed = done(store.flush()) && done(store.checkpoint());
    if !flushed {
        return None;
    }
    assert_same(store, &model);
    let found = store.verify().expect("reading");
    assert!(found.is_clean(), "after changes: {:?}", found.findings);
    if let Some((reader, bytes)) = &frozen {
        assert!(*reader.read_all().expect("reading") == **bytes, "a reader's bytes");
    }
    drop(frozen);
    if !done(store.compact()) {
        return None;
    }
    let found = store.verify().expect("reading");
    assert!(found.is_clean(), "after compaction: {:?}", found.findings);
    assert_same(store, &model);
    Some(model)
}
