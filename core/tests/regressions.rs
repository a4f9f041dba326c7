//! Failures that were found by reading the code with bad intentions, each as a named test: what
//! happened is told at each of them.
//!
//! Most need something to happen at one moment inside a call. [`Hook`] is a platform that calls a
//! closure before every call that the store makes of it, so that the moment is always the same one.

#[path = "regressions/hook.rs"]
mod hook;
#[path = "regressions/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use allod_core::{Create, Error, Options, Platform, PlatformErrorKind, Store};
use allod_mem::{CrashPlan, MemPlatform, SimDisk};
use hook::Hook;
use memory::{held, with_peak};

// ---- helpers -----------------------------------------------------------------------------------

fn content<P: Platform>(store: &Store<P>) -> BTreeMap<String, Vec<u8>> {
    let bytes = |name: &str| store.region(name).expect("a listed region").read_all();
    store
        .regions()
        .into_iter()
        .map(|info| (info.name.clone(), bytes(&info.name).expect("reading")))
        .collect()
}

fn new_store<P: Platform>(platform: P) -> Store<P> {
    Options::new().create(Create::Always).open(platform).expect("a new store")
}

/// Ends the test where a deadlock would keep it from ever ending.
fn within_a_minute<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a deadlock: {what}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let failure = worker.join().expect_err("it ended without an answer");
            std::panic::resume_unwind(failure)
        }
    }
}

// ---- the newest slot is lost -------------------------------------------------------------------

/// No way to open the bytes may succeed, or change them.
fn refuses_and_keeps(disk: &MemPlatform) {
    let before = disk.to_bytes().expect("the bytes");
    for create in [Create::IfMissing, Create::Never, Create::Always] {
        for read_only in [false, true] {
            let options = Options::new().create(create).read_only(read_only);
            let error = options.open(disk.clone()).expect_err("there is nothing to open");
            assert!(matches!(error, Error::Damaged(_)), "{create:?}, {read_only}: {error}");
        }
    }
    assert!(disk.to_bytes().expect("the bytes") == before, "opening changed the bytes");
}

/// A store of generation 2 whose slot B became unreadable: what slot A names was given to others,
/// so nothing seemed to be there, and opening made a new store over everything.
#[test]
fn a_store_that_lost_its_newest_slot_is_not_made_anew() {
    let disk = MemPlatform::new();
    let store = new_store(disk.clone());
    store.create_region("r").expect("creating").append(&vec![7; 300_000]).expect("appending");
    store.flush().expect("flushing");
    drop(store);
    let store = Options::new().open(disk.clone()).expect("opening");
    for i in 0..40 {
        let region = store.create_region(&format!("small{i}")).expect("creating");
        region.append(b"hello").expect("appending");
    }
    store.flush().expect("flushing");
    for i in 0..40 {
        store.region(&format!("small{i}")).expect("there").append(b"hello").expect("appending");
        store.flush().expect("flushing");
    }
    assert_eq!(store.stats().generation, 2);
    drop(store);
    assert_eq!(Options::new().open(disk.snapshot()).expect("it is whole").len(), 41);
    disk.write(4096, &[0xAA; 4096]).expect("writing");
    refuses_and_keeps(&disk);
}

/// The same after a compaction, which moves the region over what slot A names.
#[test]
fn a_compacted_store_that_lost_its_newest_slot_is_not_made_anew() {
    let disk = MemPlatform::new();
    let store = new_store(disk.clone());
    store.create_region("r").expect("creating").append(&vec![7; 300_000]).expect("appending");
    store.flush().expect("flushing");
    drop(store);
    let store = Options::new().open(disk.clone()).expect("opening");
    store.region("r").expect("there").append(&vec![8; 300_000]).expect("appending");
    store.compact().expect("compacting");
    let generation = store.stats().generation;
    drop(store);
    // The slots take turns, beginning with A.
    let newest = if generation % 2 == 1 { 0 } else { 4096 };
    disk.write(newest, &[0xAA; 4096]).expect("writing");
    let before = disk.to_bytes().expect("the bytes");
    // Which error it is depends on what the older slot still finds.
    for create in [Create::IfMissing, Create::Never, Create::Always] {
        let opened = Options::new().create(create).open(disk.clone());
        assert!(
            matches!(opened, Err(Error::Damaged(_) | Error::NotAStore { .. } | Error::StoreExists)),
            "{create:?}: {opened:?}"
        );
    }
    assert!(disk.to_bytes().expect("the bytes") == before, "opening changed the bytes");
}

/// A foreign file that begins with zeros, as every ISO 9660 image does, passed for a store whose
/// making never finished.
#[test]
fn a_foreign_file_that_begins_with_zeros_is_left_alone() {
    let image = MemPlatform::new();
    image.write(32_768, b"\x01CD001 precious").expect("writing");
    image.write(700_000, b"data").expect("writing");
    let before = image.to_bytes().expect("the bytes");
    for create in [Create::IfMissing, Create::Never, Create::Always] {
        let error = Options::new().create(create).open(image.clone()).expect_err("no store");
        assert!(matches!(error, Error::NotAStore { .. }), "{create:?}: {error}");
    }
    assert!(image.to_bytes().expect("the bytes") == before, "opening changed the bytes");
}

// ---- races -------------------------------------------------------------------------------------

/// An overwrite of the end that lost a race replaced the tail together with appends that had
/// returned meanwhile.
#[test]
fn overwriting_the_end_loses_no_append() {
    const APPENDS: u64 = 600_000;
    let store = new_store(MemPlatform::new());
    let region = store.create_region("r").expect("creating");
    region.append(&[0; 8]).expect("appending");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let len = region.len().expect("the length");
                    region.write_at(len - 8, &[1; 8]).expect("overwriting");
                }
            });
        }
        let appended: Vec<u64> = (0..APPENDS)
            .map(|i| region.append(&i.to_le_bytes()).expect("appending"))
            .take_while({
                let mut expected = 0;
                move |at| {
                    expected += 8;
                    *at == expected
                }
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(appended.len() as u64, APPENDS, "an append that had returned is gone");
    });
    let bytes = region.read_all().expect("reading");
    assert_eq!(bytes.len() as u64, 8 * (APPENDS + 1));
    for (i, number) in bytes.chunks(8).enumerate().skip(1) {
        let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
        assert!(number == i as u64 - 1 || number == 0x0101_0101_0101_0101, "{i}: {number:#x}");
    }
}

/// Compaction cut the file while another thread made it longer, and the store went on believing in
/// the longer one: a checkpoint then named bytes behind the end, and nothing could be opened.
#[test]
fn making_the_file_longer_while_it_is_cut_leaves_it_long_enough() {
    let disk = MemPlatform::new();
    let (hook, hanger) = Hook::new(disk.clone());
    let store = new_store(hook);
    let region = store.create_region("r").expect("creating");
    region.append(&vec![1; 9_000_000]).expect("appending");
    store.flush().expect("flushing");
    store.reserve_len(64 << 20).expect("reserving");
    let (sender, receiver) = mpsc::channel();
    let (other, mut first) = (store.clone(), true);
    hanger.hang(move |call, _, _| {
        if call == "cut" && std::mem::take(&mut first) {
            let store = other.clone();
            let (done, wait) = mpsc::channel();
            let reserving = thread::spawn(move || {
                let answer = store.reserve_len(96 << 20);
                let _ = done.send(());
                answer
            });
            // It either does its harm now or waits for the cut.
            let _ = wait.recv_timeout(Duration::from_millis(200));
            sender.send(reserving).expect("the test waits");
        }
        None
    });
    let compacted = store.clone();
    within_a_minute("compacting while the file is made longer", move || compacted.compact())
        .expect("compacting");
    hanger.clear();
    let reserving = receiver.try_recv().expect("compaction cut the file");
    reserving.join().expect("no panic").expect("reserving");
    region.append(b"more").expect("appending");
    store.checkpoint().expect("a checkpoint");
    region.append(b"acknowledged").expect("appending");
    store.flush().expect("flushing");
    let usage = store.disk_usage().expect("usage");
    assert_eq!(usage.file_len, disk.len().expect("the length"));
    assert!(store.verify().expect("verifying").is_clean());
    let reopened = Options::new().create(Create::Never).open(disk.snapshot()).expect("opening");
    assert!(content(&reopened) == content(&store));
}

/// `id()` waited for the flusher's lock, whose holder waited for the hold of the caller.
#[test]
fn asking_under_a_hold_waits_for_nobody() {
    within_a_minute("asking under a hold while another thread flushes", || {
        let store = new_store(MemPlatform::new());
        let region = store.create_region("r").expect("creating");
        for _ in 0..200 {
            region.append(b"x").expect("appending");
            let hold = store.hold().expect("holding");
            let (begins, begun) = mpsc::channel();
            let flushing = thread::spawn({
                let store = store.clone();
                move || {
                    begins.send(()).expect("the test waits");
                    store.flush().expect("flushing");
                }
            });
            begun.recv().expect("the thread lives");
            // Some rounds ask before the other thread waits for the hold, some while it does.
            thread::yield_now();
            assert_ne!(store.id(), 0);
            assert_eq!(store.stats().regions, 1);
            assert!(store.disk_usage().expect("usage").file_len > 0);
            assert_eq!(store.poisoned(), None);
            drop(hold);
            flushing.join().expect("no panic");
        }
    });
}

/// The first change of a reopened store is a flush of its own, which another thread's flush could
/// keep from the one who held the cut.
#[test]
fn the_first_change_under_a_hold_waits_for_nobody() {
    let disk = MemPlatform::new();
    let store = new_store(disk.clone());
    store.create_region("r").expect("creating");
    store.flush().expect("flushing");
    drop(store);
    within_a_minute("the first change under a hold while another thread flushes", move || {
        for _ in 0..500 {
            let store = Options::new().open(disk.snapshot()).expect("opening");
            let barrier = Arc::new(Barrier::new(2));
            let flushing = thread::spawn({
                let (store, barrier) = (store.clone(), barrier.clone());
                move || {
                    barrier.wait();
                    store.region("r").expect("there").append(b"z").expect("appending");
                    store.flush().expect("flushing");
                }
            });
            let hold = store.hold().expect("holding");
            barrier.wait();
            store.region("r").expect("there").append(b"y").expect("appending");
            drop(hold);
            flushing.join().expect("no panic");
            assert_eq!(store.region("r").expect("there").len(), Ok(2));
        }
    });
}

/// A compaction trimmed a region between the cut of a copy and the copying: its end was given to
/// another region, whose bytes then turned up in the copy.
#[test]
fn a_copy_holds_no_bytes_of_regions_that_came_later() {
    let (hook, hanger) = Hook::new(MemPlatform::new());
    let store = new_store(hook);
    let a = store.create_region("a").expect("creating");
    let b = store.create_region("b").expect("creating");
    a.append(&vec![0xA1; 600_000]).expect("appending");
    b.append(&vec![0xB1; 600_000]).expect("appending");
    store.flush().expect("flushing");
    let mut compaction = Some(store.compaction().expect("compacting"));
    // So that the flush of the copy has something to capture.
    a.write_at(0, b"dirty").expect("overwriting");
    b.write_at(0, b"dirty").expect("overwriting");

    let (sender, trimming) = mpsc::channel();
    let truncated = b.clone();
    hanger.hang(move |_, _, _| {
        if let Some(mut compaction) = compaction.take() {
            let b = truncated.clone();
            let (done, wait) = mpsc::channel();
            let thread = thread::spawn(move || {
                b.truncate(400_000).expect("truncating");
                compaction.step(1 << 30).expect("compacting");
                let _ = done.send(());
            });
            // It either does its harm now or waits for this flush.
            let _ = wait.recv_timeout(Duration::from_millis(200));
            sender.send(thread).expect("the test waits");
        }
        None
    });
    let (target, target_hanger) = Hook::new(MemPlatform::new());
    let (other, mut once) = (store.clone(), Some(trimming));
    target_hanger.hang(move |_, _, _| {
        if let Some(trimming) = once.take() {
            let thread = trimming.try_recv().expect("the copy makes a flush");
            thread.join().expect("no panic");
            other.checkpoint().expect("a checkpoint");
            let c = other.create_region("c").expect("creating");
            c.append(&vec![0xCC; 600_000]).expect("appending");
            other.flush().expect("flushing");
        }
        None
    });
    let copying = store.clone();
    let copy = within_a_minute("copying while compacting", move || copying.copy_to(target));
    let copy = copy.expect("copying");
    assert!(store.contains("c"), "nothing happened while copying");
    let mut expected = vec![0xB1; 600_000];
    expected[..5].copy_from_slice(b"dirty");
    let found = copy.region("b").expect("copied").read_all().expect("reading");
    // The truncation may have come before the cut or after it.
    assert!(found.len() == 600_000 || found.len() == 400_000, "{} bytes", found.len());
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(wrong, None, "a byte of another region");
    assert!(!copy.contains("c"));
    assert!(store.verify().expect("verifying").is_clean());
    assert!(copy.verify().expect("verifying").is_clean());
}

/// A region that was removed while compaction copied it made the compaction fail, and what was
/// being copied was missing in the sum that verification makes.
#[test]
fn removing_a_region_while_it_is_moved_harms_nobody() {
    let (hook, hanger) = Hook::new(MemPlatform::new());
    let store = new_store(hook);
    let a = store.create_region("a").expect("creating");
    a.append(&vec![1; 3_000_000]).expect("appending");
    let b = store.create_region("b").expect("creating");
    b.append(&vec![2; 2_000_000]).expect("appending");
    store.flush().expect("flushing");
    a.remove().expect("removing");
    store.checkpoint().expect("a checkpoint");
    let (sender, verified) = mpsc::channel();
    let (other, mut moved) = (store.clone(), Some(b.clone()));
    hanger.hang(move |call, _, len| {
        if call == "write" && len >= 65_536 {
            if let Some(b) = moved.take() {
                let store = other.clone();
                let verification = thread::spawn(move || store.verify()).join();
                sender.send(verification.expect("no panic")).expect("the test waits");
                thread::spawn(move || b.remove()).join().expect("no panic").expect("removing");
            }
        }
        None
    });
    let compacted = store.clone();
    let progress = within_a_minute("removing while compacting", move || compacted.compact());
    assert!(progress.expect("compacting").done);
    hanger.clear();
    let verification = verified.try_recv().expect("compaction moved a region");
    assert_eq!(verification.expect("verifying").findings, []);
    assert_eq!(b.len(), Err(Error::RegionRemoved { id: b.id() }));
    assert!(store.is_empty());
    assert_eq!(store.verify().expect("verifying").findings, []);
}

/// A flush that failed took back what it had captured, but not the pages that a truncation had
/// loaded meanwhile: the next flush named bytes of a place that was never synced.
#[test]
fn a_flush_that_failed_takes_back_what_a_truncation_loaded() {
    let disk = SimDisk::new(7);
    let (hook, hanger) = Hook::new(disk.clone());
    let store = new_store(hook);
    let region = store.create_region("r").expect("creating");
    store.flush().expect("flushing");
    // More than the tail holds, so that it is in place and not durable.
    region.append(&vec![0x55; 400_000]).expect("appending");
    let (truncated, mut first) = (region.clone(), true);
    hanger.hang(move |call, _, _| {
        if call != "write" || !std::mem::take(&mut first) {
            return None;
        }
        let region = truncated.clone();
        let truncating = thread::spawn(move || region.truncate_write(100_123, b""));
        truncating.join().expect("no panic").expect("truncating");
        Some(PlatformErrorKind::NoSpace)
    });
    let flushing = store.clone();
    let failed = within_a_minute("truncating while flushing", move || flushing.flush());
    let failed = failed.expect_err("the disk was full");
    assert!(
        matches!(&failed, Error::Platform(error) if error.kind == PlatformErrorKind::NoSpace),
        "{failed}"
    );
    assert_eq!(region.len(), Ok(100_123));
    store.flush().expect("the disk is not full any more");
    let mut only_length = CrashPlan::oldest();
    only_length.length = u32::MAX;
    for plan in [CrashPlan::oldest(), only_length, CrashPlan::newest(), CrashPlan::garbage(3)] {
        let store = Options::new().open(disk.crash(&plan)).expect("opening after a power cut");
        let bytes = store.region("r").expect("there").read_all().expect("reading");
        assert_eq!(bytes.len(), 100_123, "{plan:?}");
        assert_eq!(bytes.iter().position(|byte| *byte != 0x55), None, "{plan:?}");
        assert!(store.verify().expect("verifying").is_clean());
    }
}

/// A look-up found the slot of a region by its name, and then another region in that slot.
#[test]
fn a_look_up_answers_no_other_region() {
    const ROUNDS: u64 = 20_000;
    let store = new_store(MemPlatform::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let lookers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        match store.region("a").map(|region| region.name()) {
                            None | Some(Err(Error::RegionRemoved { .. })) => {}
                            Some(Ok(name)) if name == "a" => {}
                            Some(other) => return Some(other),
                        }
                    }
                    None
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            for name in ["a", "b"] {
                store.create_region(name).expect("creating").remove().expect("removing");
                store.flush().expect("flushing");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for looker in lookers {
            assert_eq!(looker.join().expect("no panic"), None);
        }
    });
}

// ---- hostile bytes -----------------------------------------------------------------------------

/// The page on which creation puts the first journal.
const JOURNAL: u64 = 3 * 4096;
const HEADER: usize = 72;

/// A store with one region, and the header of the batch that proved it, which is the first.
fn store_and_proof() -> (MemPlatform, Vec<u8>) {
    let disk = MemPlatform::new();
    let store = new_store(disk.clone());
    store.create_region("r").expect("creating");
    store.flush().expect("flushing");
    let mut header = vec![0; HEADER];
    disk.read(JOURNAL, &mut header).expect("reading");
    assert_eq!(&header[..8], b"allodbat");
    (disk, header)
}

/// The checksum of FORMAT.md, of bytes whose own field for it is zeros.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

fn seal(batch: &mut [u8]) {
    batch[68..72].fill(0);
    let checksum = crc32(batch);
    batch[68..72].copy_from_slice(&checksum.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[test]
fn the_checksum_of_these_tests_is_the_right_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let (_, mut header) = store_and_proof();
    let written = header.clone();
    seal(&mut header);
    assert_eq!(header, written);
}

/// A batch that says that the next id is the last number there is: the second region overflowed.
#[test]
fn ids_that_run_out_are_an_error() {
    for next in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let (disk, mut header) = store_and_proof();
        header[48..56].copy_from_slice(&next.to_le_bytes());
        // The second batch, the one that made the region, must not take it back.
        let mut second = vec![0; 4096];
        disk.read(JOURNAL + 4096, &mut second).expect("reading");
        let len = u64::from_le_bytes(second[56..64].try_into().expect("eight bytes")) as usize;
        if second.starts_with(b"allodbat") {
            second[48..56].copy_from_slice(&next.to_le_bytes());
            seal(&mut second[..len]);
            disk.write(JOURNAL + 4096, &second).expect("writing");
        }
        seal(&mut header);
        disk.write(JOURNAL, &header).expect("writing");
        let store = match Options::new().open(disk) {
            Ok(store) => store,
            Err(Error::Damaged(_)) => continue,
            Err(error) => panic!("{next:#x}: {error}"),
        };
        let mut ids = Vec::new();
        for i in 0..4 {
            match store.create_region(&format!("new{i}")) {
                Ok(region) => ids.push(region.id()),
                Err(error) => assert!(matches!(error, Error::TooLarge { .. }), "{error}"),
            }
        }
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{next:#x}: {ids:?}");
    }
}

/// A batch of hundreds of thousands of empty page images, three bytes each, took a page of memory
/// for each of them.
#[test]
fn a_batch_of_empty_images_takes_little_memory() {
    const IMAGES: u64 = 300_000;
    let (disk, header) = store_and_proof();
    let mut batch = header;
    // A page far behind everything, and then one after the other.
    for i in 0..=IMAGES {
        batch.push(4);
        varint(&mut batch, if i == 0 { 2 * 5000 } else { 2 });
        varint(&mut batch, 0);
    }
    batch[32..40].copy_from_slice(&3_u64.to_le_bytes());
    batch[40..48].copy_from_slice(&2_u64.to_le_bytes());
    let len = batch.len() as u64;
    batch[56..64].copy_from_slice(&len.to_le_bytes());
    batch[64..68].copy_from_slice(&(IMAGES as u32 + 1).to_le_bytes());
    seal(&mut batch);
    disk.write(JOURNAL + 2 * 4096, &batch).expect("writing");
    let (opened, peak) = with_peak(|| Options::new().open(disk.clone()));
    // The batch itself, and a small multiple of it: an entry of a map for each image.
    assert!(peak as u64 <= 64 * len, "opening took {peak} bytes for a batch of {len}");
    match opened {
        Ok(store) => assert_eq!(content(&store), [("r".to_owned(), Vec::new())].into()),
        Err(error) => assert!(matches!(error, Error::Damaged(_)), "{error}"),
    }
}

// ---- memory at rest ----------------------------------------------------------------------------

/// Regions that had been written kept their tails, pages and sets of pages for ever.
#[test]
fn regions_at_rest_hold_little_memory() {
    const REGIONS: u64 = 20_000;
    let disk = MemPlatform::new();
    let store = new_store(disk.clone());
    for i in 0..REGIONS {
        let region = store.create_region(&format!("{i:06}")).expect("creating");
        region.append(b"x").expect("appending");
    }
    assert!(store.stats().memory > 0, "nothing was in memory");
    store.flush().expect("flushing");
    for _ in 0..3 {
        store.checkpoint().expect("a checkpoint");
    }
    let stats = store.stats();
    assert_eq!(stats.regions, REGIONS);
    assert_eq!(stats.memory, 0, "{stats:?}");
    let before = held();
    // The platform's bytes live on.
    drop(store);
    let freed = (before - held()) as u64;
    assert!(freed / REGIONS < 200, "{} bytes a region", freed / REGIONS);
    let store = Options::new().open(disk).expect("opening");
    assert_eq!(store.stats().memory, 0);
    assert_eq!(store.region("019999").expect("there").read_all().expect("reading"), b"x");
}
