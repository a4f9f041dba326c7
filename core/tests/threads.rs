//! Real threads on one store: promise 2 (the consistent cut), promise 3 (readers block nobody and
//! see one moment), and that nothing is lost. The images that are opened are those of a process
//! that died at that instant.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use allod_core::{Options, Store};
use allod_mem::MemPlatform;

fn options() -> Options {
    Options::new().journal_size(128 << 10).inline_limit(16 << 10).memory_budget(256 << 10)
}

fn numbers(store: &Store<MemPlatform>, name: &str) -> Vec<u64> {
    let Some(region) = store.region(name) else { return Vec::new() };
    let bytes = region.read_all().expect("reading");
    bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().expect("whole numbers"))).collect()
}

/// The numbers from 0 on, none missing, none twice.
fn whole(numbers: &[u64]) {
    let wrong = (0..).zip(numbers).find(|(expected, found)| expected != *found);
    assert_eq!(wrong, None, "expected and found, of {}", numbers.len());
}

/// Each writer appends i to `a`, then to `b`; every cut must have `b` as `a`, or one behind.
#[test]
fn no_flushed_state_has_a_later_write_without_an_earlier_one() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 4_000;
    let platform = MemPlatform::new();
    let store = options().open(platform.clone()).expect("a new store");
    for writer in 0..WRITERS {
        store.create_region(&format!("a{writer}")).expect("creating");
        store.create_region(&format!("b{writer}")).expect("creating");
    }
    store.flush().expect("flushing");
    let done = AtomicBool::new(false);
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let images = AtomicU64::new(0);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, acknowledged) = (&store, &acknowledged);
                scope.spawn(move || {
                    let a = store.region(&format!("a{writer}")).expect("there");
                    let b = store.region(&format!("b{writer}")).expect("there");
                    for i in 0..ROUNDS {
                        a.append(&i.to_le_bytes()).expect("appending");
                        b.append(&i.to_le_bytes()).expect("appending");
                        if i % 50 == writer {
                            store.flush().expect("flushing");
                            acknowledged[writer as usize].store(i + 1, Ordering::SeqCst);
                        }
                        if i % 701 == 0 {
                            let name = format!("t{writer}-{i}");
                            let region = store.create_region(&name).expect("creating");
                            region.append(&[7; 5000]).expect("appending");
                            if i % 1402 == 0 {
                                region.remove().expect("removing");
                            }
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.compact().expect("compacting");
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            // At least one image of the middle, and one of the end.
            while !done.load(Ordering::SeqCst) || images.load(Ordering::SeqCst) < 2 {
                let before: Vec<u64> =
                    acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect();
                let image = platform.snapshot();
                let store = options().read_only(true).open(image).expect("an image opens");
                for writer in 0..WRITERS {
                    let a = numbers(&store, &format!("a{writer}"));
                    let b = numbers(&store, &format!("b{writer}"));
                    whole(&a);
                    whole(&b);
                    assert!(
                        a.len() == b.len() || a.len() == b.len() + 1,
                        "a has {}, b has {}",
                        a.len(),
                        b.len()
                    );
                    assert!(b.len() as u64 >= before[writer as usize], "what was flushed is there");
                }
                images.fetch_add(1, Ordering::SeqCst);
            }
        });
        for writer in writers {
            writer.join().expect("a writer");
        }
        done.store(true, Ordering::SeqCst);
    });
    for writer in 0..WRITERS {
        assert_eq!(numbers(&store, &format!("a{writer}")).len() as u64, ROUNDS);
    }
    let found = store.verify().expect("verifying");
    assert!(found.is_clean(), "{:?}", found.findings);
}

/// What is done while the cut is held lands in one flush.
#[test]
fn a_hold_is_never_divided() {
    let platform = MemPlatform::new();
    let store = options().open(platform.clone()).expect("a new store");
    for name in ["x", "y", "z"] {
        store.create_region(name).expect("creating").append(&[0; 8]).expect("appending");
    }
    store.flush().expect("flushing");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 1..2_000u64 {
                let hold = store.hold().expect("holding");
                for name in ["x", "y", "z"] {
                    let region = store.region(name).expect("there");
                    region.write_at(0, &i.to_le_bytes()).expect("writing");
                }
                drop(hold);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.flush().expect("flushing");
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let image = options().open(platform.snapshot()).expect("an image opens");
                let all = ["x", "y", "z"].map(|name| numbers(&image, name)[0]);
                assert!(all[0] == all[1] && all[1] == all[2], "{all:?}");
            }
        });
        writer.join().expect("the writer");
        done.store(true, Ordering::SeqCst);
    });
}

/// Appends of many threads to one region are all there, each whole; readers see a prefix that never
/// changes.
#[test]
fn appends_of_many_threads_are_all_there() {
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 3_000;
    let store = options().open(MemPlatform::new()).expect("a new store");
    let region = store.create_region("shared").expect("creating");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let region = region.clone();
                scope.spawn(move || {
                    for i in 0..ROUNDS {
                        let size = 8 * (1 + (i % 37) as usize);
                        let record = (writer << 32 | i).to_le_bytes().repeat(size / 8);
                        region.append(&record).expect("appending");
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let mut old: Vec<(allod_core::Reader<MemPlatform>, Vec<u8>)> = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let reader = region.reader().expect("a reader");
                    let bytes = reader.read_all().expect("reading").into_owned();
                    for (reader, bytes) in &old {
                        assert!(*reader.read_all().expect("reading") == *bytes);
                    }
                    old.push((reader, bytes));
                    if old.len() > 4 {
                        old.remove(0);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.flush().expect("flushing");
            }
        });
        for writer in writers {
            writer.join().expect("a writer");
        }
        done.store(true, Ordering::SeqCst);
    });
    let bytes = region.read_all().expect("reading");
    let mut seen = vec![0u64; WRITERS as usize];
    let mut words =
        bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().expect("whole numbers")));
    while let Some(word) = words.next() {
        let (writer, i) = ((word >> 32) as usize, word & 0xffff_ffff);
        assert_eq!(seen[writer], i, "in order");
        seen[writer] += 1;
        for _ in 0..i % 37 {
            assert_eq!(words.next(), Some(word), "whole");
        }
    }
    assert!(seen.iter().all(|n| *n == ROUNDS));
}
