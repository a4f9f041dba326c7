//! The golden file: a store of format version 1, as it was written once (promise 9). What it holds
//! must be read for ever, and the same calls must give the same bytes for as long as the format has
//! this version.
//!
//! The file holds everything that FORMAT.md describes: both slots, a checkpoint with carried pages,
//! batches with entries of all kinds, regions with and without an extent, and holes. Zeros at its
//! end are left out.
//!
//! To write it anew, which only a new version of the format justifies: remove it and run this test
//! with `ALLOD_WRITE_GOLDEN=1`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use allod_core::platform::Platform;
use allod_core::{Create, Options, Store};
use allod_mem::MemPlatform;

/// The length of the store with the zeros at its end.
const LEN: u64 = 196_608;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1.allod")
}

fn golden() -> Vec<u8> {
    fs::read(path()).expect("the golden file is part of the repository")
}

fn options() -> Options {
    Options::new().journal_size(48 << 10).inline_limit(16 << 10).memory_budget(128 << 10)
}

/// Bytes that are easy to make and hard to mistake.
fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..len).map(next).collect()
}

/// A life of a store, with two deaths. Answers what its bytes are then.
fn history() -> MemPlatform {
    let platform = MemPlatform::new().with_entropy(0x0061_6c6c_6f64);
    let open = |create| options().create(create).open(platform.clone()).expect("opening");

    let store = open(Create::Always);
    let create = |store: &Store<MemPlatform>, name: &str, content: &[u8]| {
        let region = store.create_region(name).expect("creating");
        region.append(content).expect("appending");
        region
    };
    let first = create(&store, "first", &bytes(1, 10_000));
    create(&store, "empty", b"");
    let gone = create(&store, "gone", &bytes(2, 9_000));
    let large = create(&store, "large", &bytes(3, 30_000));
    store.flush().expect("flushing");
    let name = create(&store, "old name", &bytes(4, 100));
    store.flush().expect("flushing");
    store.checkpoint().expect("a checkpoint");
    gone.remove().expect("removing");
    first.write_at(5_000, &bytes(5, 300)).expect("overwriting");
    large.write_at(29_990, &bytes(6, 50)).expect("overwriting");
    store.flush().expect("flushing");
    store.checkpoint().expect("a checkpoint");
    // What the journal holds when the first life ends is carried by the next one.
    large.write_at(14_000, &bytes(7, 4_000)).expect("overwriting");
    name.rename("t\u{e4}g").expect("renaming");
    store.flush().expect("flushing");
    create(&store, "never flushed", b"lost");
    drop((store, first, gone, large, name));

    let store = open(Create::Never);
    let region = |name| store.region(name).expect("it was flushed");
    region("first").append(&bytes(8, 5)).expect("appending");
    store.flush().expect("flushing");
    // A change of a page that this generation's journal holds already.
    region("first").write_at(9_999, &bytes(9, 3)).expect("overwriting");
    region("t\u{e4}g").truncate(42).expect("truncating");
    create(&store, "short-lived", &bytes(10, 700));
    store.flush().expect("flushing");
    store.remove_region("short-lived").expect("removing");
    region("large").truncate_write(20_000, &bytes(11, 1_000)).expect("rewriting");
    create(&store, "later", &bytes(12, 5_000));
    create(&store, "later and empty", b"");
    store.flush().expect("flushing");
    region("later").replace(&bytes(13, 600)).expect("replacing");
    store.rename_region("later and empty", "emptier").expect("renaming");
    store.flush().expect("flushing");
    create(&store, "never flushed either", b"lost");
    platform
}

/// What the store must hold after that: name, id and bytes. Made without a store.
fn expected() -> BTreeMap<&'static str, (u64, Vec<u8>)> {
    let mut first = bytes(1, 10_000);
    first[5_000..5_300].copy_from_slice(&bytes(5, 300));
    first.extend(bytes(8, 5));
    first[9_999..10_002].copy_from_slice(&bytes(9, 3));
    let mut large = bytes(3, 30_000);
    large.resize(30_040, 0);
    large[29_990..].copy_from_slice(&bytes(6, 50));
    large[14_000..18_000].copy_from_slice(&bytes(7, 4_000));
    large.truncate(20_000);
    large.extend(bytes(11, 1_000));
    BTreeMap::from([
        ("first", (1, first)),
        ("empty", (2, Vec::new())),
        ("large", (4, large)),
        ("t\u{e4}g", (5, bytes(4, 42))),
        ("later", (7, bytes(13, 600))),
        ("emptier", (8, Vec::new())),
    ])
}

fn same(store: &Store<MemPlatform>) {
    let expected = expected();
    let found: Vec<_> = store.regions().into_iter().map(|region| region.name).collect();
    assert_eq!(found, expected.keys().copied().collect::<Vec<_>>());
    for (name, (id, bytes)) in expected {
        let region = store.region(name).expect("a listed region");
        assert_eq!(region.id(), id, "the id of {name}");
        assert!(region.read_all().expect("reading") == bytes, "the bytes of {name}");
    }
}

/// The bytes of the golden file with the zeros that it leaves out.
fn platform() -> MemPlatform {
    let platform = MemPlatform::from_bytes(&golden());
    platform.grow(LEN).expect("memory");
    platform
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn the_golden_file_holds_what_was_written() {
    for read_only in [true, false] {
        let options = Options::new().create(Create::Never).read_only(read_only);
        let store = options.open(platform()).expect("opening");
        same(&store);
        let verification = store.verify().expect("verifying");
        assert_eq!(verification.findings, []);
        assert_eq!(verification.batches, 5, "the proof and four flushes");
    }
}

#[test]
fn the_golden_file_can_be_worked_with() {
    let platform = platform();
    let store = options().open(platform.clone()).expect("opening");
    let new = store.create_region("new").expect("creating");
    assert_eq!(new.id(), 9, "the next id is that of the last flush");
    new.append(&bytes(20, 100_000)).expect("appending");
    store.compact().expect("compacting");
    drop(store);
    let store = Options::new().create(Create::Never).open(platform).expect("opening");
    assert!(store.remove_region("new").is_ok());
    same(&store);
    assert_eq!(store.verify().expect("verifying").findings, []);
}

/// The parts of the format that the file is there for, found by FORMAT.md alone.
#[test]
fn the_golden_file_has_every_part_of_the_format() {
    let bytes = golden();
    let (a, b) = (&bytes[..4096], &bytes[4096..8192]);
    for slot in [a, b] {
        assert_eq!(&slot[..12], b"allod\r\n\x1a\x01\0\0\0");
        assert_eq!(&slot[12..16], &4096_u32.to_le_bytes());
    }
    let (newer, older) = if u64_at(a, 56) > u64_at(b, 56) { (a, b) } else { (b, a) };
    assert_eq!(u64_at(newer, 56), u64_at(older, 56) + 1, "the slots take turns");
    let checkpoint = &bytes[u64_at(newer, 72) as usize * 4096..];
    assert_eq!(&checkpoint[..8], b"allodckp");
    assert!(u64_at(checkpoint, 56) >= 2, "no carried pages");
    let journal = &bytes[u64_at(newer, 96) as usize * 4096..];
    assert_eq!(&journal[..8], b"allodbat");
    let store = Options::new().read_only(true).open(platform()).expect("opening");
    let usage = store.disk_usage().expect("usage");
    assert!(usage.hole_count > 0, "no holes: {usage:?}");
    assert!(store.regions().iter().any(|region| region.capacity == 0), "all have an extent");
}

#[test]
fn the_same_calls_give_the_bytes_of_the_golden_file() {
    let mut written = history().to_bytes().expect("the bytes");
    assert!(history().to_bytes().expect("the bytes") == written, "two lives differ");
    let len = written.len() as u64;
    let used = written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    written.truncate(used);
    if std::env::var_os("ALLOD_WRITE_GOLDEN").is_some() && !path().exists() {
        fs::write(path(), &written).expect("writing the golden file");
        panic!("the golden file was written; LEN is {len}");
    }
    assert_eq!(len, LEN, "the length of the store");
    let golden = golden();
    assert_eq!(written.len(), golden.len(), "the length without zeros at the end");
    let differs = written.iter().zip(&golden).position(|(now, then)| now != then);
    assert_eq!(differs, None, "the first byte that differs");
}
