//! Space comes back (promise 7), and looking inside: usage, statistics, verification, copies.

use std::ops::ControlFlow;

use allod_core::{Error, Options, Platform, Store};
use allod_mem::{Fault, FaultRule, MemPlatform, OperationSet};

use crate::bench::*;
use crate::refused;
use crate::script::SCRIPT;

/// The parts of the file add up to the file.
fn adds_up<P: Platform>(store: &Store<P>, when: &str) {
    let usage = store.disk_usage().unwrap();
    let parts = usage.live + usage.reserved + usage.holes + usage.retired + usage.metadata;
    assert_eq!(parts, usage.file_len, "{when}: {usage:?}");
    assert!(usage.largest_hole <= usage.holes && usage.hole_count <= usage.holes / 4096);
    let live: u64 = store.regions().iter().map(|region| region.len).sum();
    assert_eq!(usage.live, live, "{when}");
    assert_eq!(usage.file_len, store.platform().len().unwrap(), "{when}");
}

fn clean<P: Platform>(store: &Store<P>, when: &str) {
    let found = store.verify().unwrap();
    assert!(found.is_clean(), "{when}: {found:?}");
    assert_eq!(found.regions, store.len() as u64, "{when}");
}

/// Many regions of many sizes, of which most are removed.
fn sieve<B: Bench>(options: &Options) -> (B, On<B>, Content) {
    let bench = B::fresh();
    let live = options.open(bench.platform()).unwrap();
    for i in 0..60u64 {
        region(&live, &format!("{i}"), &pattern(i, (i * 2711 % 40_000) as usize));
        if i % 7 == 0 {
            live.flush().unwrap();
        }
    }
    region(&live, "big", &pattern(99, 3_000_000));
    region(&live, "last", &pattern(98, 150_000));
    live.flush().unwrap();
    live.retain_regions(|name| name.ends_with('3') || name == "last").unwrap();
    live.flush().unwrap();
    let expected = content(&live);
    (bench, live, expected)
}

pub fn compacting_shortens_the_file_and_keeps_every_byte<B: Bench>() {
    let (bench, live, expected) = sieve::<B>(&small());
    let before = bench.bytes().len() as u64;
    let done = live.compact().unwrap();
    assert!(done.done, "{done:?}");
    let after = bench.bytes().len() as u64;
    assert_eq!(before.saturating_sub(after), done.cut_bytes, "{done:?}");
    let bytes: usize = expected.values().map(Vec::len).sum();
    assert!(after < bytes as u64 + 600_000, "{after} bytes for {bytes}");
    assert!(content(&live) == expected);
    assert!(after_death(&bench) == expected);
    adds_up(&live, "compacted");
    clean(&live, "compacted");
    for i in 0..20u64 {
        region(&live, &format!("new {i}"), &pattern(i, 30_000));
    }
    live.flush().unwrap();
    assert!(after_death(&bench) == content(&live));
    clean(&live, "filled again");
}

pub fn compacting_an_empty_or_compact_store_does_nothing<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    assert!(live.compact().unwrap().done);
    region(&live, "a", b"x");
    for _ in 0..3 {
        live.compact().unwrap();
    }
    let len = bench.bytes().len();
    let again = live.compact().unwrap();
    assert_eq!((again.moved_regions, again.moved_bytes, again.cut_bytes), (0, 0, 0), "{again:?}");
    assert_eq!(bench.bytes().len(), len);
    assert_eq!(after_death(&bench)["a"], b"x");
}

pub fn truncating_and_compacting_keeps_the_length_and_gives_room_back<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", &pattern(1, 1_000_000));
    live.flush().unwrap();
    a.truncate(5001).unwrap();
    live.flush().unwrap();
    live.compact().unwrap();
    assert_eq!(a.len().unwrap(), 5001);
    assert_eq!(a.capacity().unwrap(), 8192, "whole pages only");
    assert!(bench.bytes().len() < 600_000);
    assert!(after_death(&bench)["a"] == pattern(1, 1_000_000)[..5001]);
    a.append(b"more").unwrap();
    live.flush().unwrap();
    assert_eq!(after_death(&bench)["a"].len(), 5005);
}

pub fn each_step_of_a_compaction_leaves_the_whole_store<B: Bench>() {
    let (bench, live, expected) = sieve::<B>(&small());
    let mut steps = 0;
    let mut last = Default::default();
    let done = live
        .compact_with(10_000, |progress| {
            steps += 1;
            assert!(progress.moved_bytes >= std::mem::replace(&mut last, *progress).moved_bytes);
            assert!(content(&live) == expected && after_death(&bench) == expected);
            if steps == 3 {
                // Somebody writes meanwhile.
                region(&live, "meanwhile", &pattern(5, 70_000)).remove().unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(done.done && steps > 3, "{steps} steps, {done:?}");
    assert!(content(&live) == expected);
    clean(&live, "in steps");
}

pub fn a_compaction_can_be_broken_off<B: Bench>() {
    let (bench, live, expected) = sieve::<B>(&small());
    let first = live.compact_with(4096, |_| ControlFlow::Break(())).unwrap();
    assert!(!first.done);
    let mut steps = live.compaction().unwrap();
    steps.step(4096).unwrap();
    drop(steps);
    assert!(content(&live) == expected && after_death(&bench) == expected);
    adds_up(&live, "broken off");
    assert!(live.compact().unwrap().done);
    assert!(after_death(&bench) == expected);
}

pub fn readers_and_changes_go_on_during_a_compaction<B: Bench>() {
    let (bench, live, mut expected) = sieve::<B>(&small());
    let readers: Vec<_> = expected
        .iter()
        .map(|(name, bytes)| (live.region(name).unwrap().reader().unwrap(), bytes.clone()))
        .collect();
    let mut steps = live.compaction().unwrap();
    for i in 0..200u64 {
        let name = format!("{}3", i % 6);
        if let Some(a) = live.region(&name) {
            a.append(&pattern(i, 50)).unwrap();
            a.write_at(0, b"overwritten").unwrap();
            let bytes = expected.get_mut(&name).unwrap();
            bytes.extend(pattern(i, 50));
            let n = bytes.len().min(11);
            bytes[..n].copy_from_slice(&b"overwritten"[..n]);
            assert_eq!(n, 11);
        }
        let progress = steps.step(20_000).unwrap();
        assert!(content(&live) == expected, "step {i}");
        assert!(readers.iter().all(|(reader, then)| *reader.read_all().unwrap() == **then));
        if progress.done {
            break;
        }
    }
    live.flush().unwrap();
    assert!(after_death(&bench) == expected);
    drop(readers);
    assert!(live.compact().unwrap().done);
    assert!(after_death(&bench) == expected);
    clean(&live, "after readers");
}

pub fn a_compaction_is_refused_where_changes_are<B: Bench>() {
    let (bench, live, _) = sieve::<B>(&small());
    let hold = live.hold().unwrap();
    refused!(live.compact(), Error::HoldActive);
    drop(hold);
    drop(live);
    let live = small().read_only(true).open(bench.platform()).unwrap();
    refused!(live.compact(), Error::ReadOnly);
    refused!(live.compaction(), Error::ReadOnly);
    clean(&live, "read-only");
    live.disk_usage().unwrap();
}

pub fn a_compaction_that_fails_anywhere_loses_nothing<B: Bench>() {
    use allod_core::PlatformErrorKind as Kind;
    for operations in [OperationSet::SPACE, OperationSet::SYNCS, OperationSet::CHANGES] {
        for nth in 1.. {
            let (bench, live, expected) = sieve::<B>(&small());
            drop(live);
            let platform = Fault::new(bench.platform(), 1);
            let faults = platform.handle();
            let live = small().open(platform).unwrap();
            faults.add(FaultRule::nth(operations, nth, Kind::Io));
            let result = live.compact_with(50_000, |_| ControlFlow::Continue(()));
            assert!(content(&live) == expected, "call {nth} of {operations:?}: {result:?}");
            let fired = faults.fired() > 0;
            if live.poisoned().is_none() {
                faults.clear();
                live.compact().unwrap();
                assert!(content(&live) == expected, "call {nth} of {operations:?}: again");
                clean(&live, "again");
            }
            drop(live);
            assert!(content(&reopen(&bench)) == expected, "call {nth} of {operations:?}: reopened");
            if !fired {
                assert!(nth > 3);
                break;
            }
        }
    }
}

pub fn usage_adds_up_after_every_change<B: Bench>() {
    let bench = B::fresh();
    let live = small().inline_limit(8192).open(bench.platform()).unwrap();
    adds_up(&live, "new");
    for (seed, step) in SCRIPT.iter().enumerate() {
        step.run(&live, seed as u64).unwrap();
        if step.is_flush() {
            adds_up(&live, &format!("step {seed}, {step:?}"));
            clean(&live, &format!("step {seed}, {step:?}"));
        }
    }
    drop(live);
    let live = reopen(&bench);
    let usage = live.disk_usage().unwrap();
    assert!(usage.live + usage.metadata <= usage.file_len, "{usage:?}");
    clean(&live, "reopened");
}

pub fn removed_space_becomes_holes<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let fresh = live.disk_usage().unwrap();
    assert_eq!((fresh.live, fresh.retired), (0, 0));
    region(&live, "a", &pattern(1, 500_000));
    region(&live, "b", &pattern(1, 10));
    live.flush().unwrap();
    live.remove_region("a").unwrap();
    live.checkpoint().unwrap();
    live.checkpoint().unwrap();
    let usage = live.disk_usage().unwrap();
    assert_eq!((usage.live, usage.retired), (10, 0), "{usage:?}");
    assert!(usage.holes >= 500_000, "{usage:?}");
}

pub fn verification_finds_a_flip_in_the_metadata<B: Bench>() {
    let (bench, live, _) = sieve::<B>(&small());
    clean(&live, "at first");
    live.checkpoint().unwrap();
    let bytes = bench.bytes();
    let place = bytes.windows(8).rposition(|bytes| bytes == b"allodckp").unwrap();
    let metadata = live.disk_usage().unwrap().metadata;
    assert!(metadata > 0);
    // Older checkpoints may lie about; the last one in the file need not be the newest.
    let mut found = 0;
    for at in bytes.windows(8).enumerate().filter(|(_, w)| *w == b"allodckp").map(|(at, _)| at) {
        live.platform().write(at as u64 + 50, &[bytes[at + 50] ^ 4]).unwrap();
        found += usize::from(!live.verify().unwrap().is_clean());
        live.platform().write(at as u64 + 50, &[bytes[at + 50]]).unwrap();
    }
    assert_eq!(found, 1, "one checkpoint counts; the last is at {place}");
    clean(&live, "mended");
}

pub fn a_copy_is_compact_and_the_same<B: Bench>() {
    let (bench, live, expected) = sieve::<B>(&small());
    let a = live.region("3").unwrap();
    a.write_at(10, b"not flushed").unwrap();
    let now = content(&live);
    assert!(now != expected);
    let memory = MemPlatform::new();
    let copy = live.copy_to(memory.clone()).unwrap();
    assert!(content(&copy) == now);
    clean(&copy, "the copy");
    assert!(content(&Options::new().open(memory.snapshot()).unwrap()) == now, "it is durable");
    assert!(copy.disk_usage().unwrap().live == live.disk_usage().unwrap().live);
    region(&copy, "more", b"x");
    copy.flush().unwrap();
    assert!(!live.contains("more"));
    assert!(content(&live) == now);
    let other = B::fresh();
    let back = copy.copy_to(other.platform()).unwrap();
    assert!(content(&back) == content(&copy));
    drop(back);
    assert!(content(&reopen(&other)) == content(&copy));
    // Somebody's store is not overwritten.
    drop((live, a));
    let before = bench.bytes();
    assert!(copy.copy_to(bench.platform()).is_err());
    assert!(bench.bytes() == before);
}

pub fn statistics_count<B: Bench>() {
    let live = store(&B::fresh());
    let before = live.stats();
    region(&live, "a", b"x");
    live.flush().unwrap();
    live.checkpoint().unwrap();
    let after = live.stats();
    assert_eq!(after.regions, 1);
    assert_eq!(after.flushes - before.flushes, 2);
    assert_eq!(after.checkpoints - before.checkpoints, 1);
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.failed_flushes, 0);
}
