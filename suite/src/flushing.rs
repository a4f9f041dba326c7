//! The flush: atomic (promise 1), one cut (2), few syncs (4), cost by change (8), the same bytes for
//! the same calls (9), and what is there after opening again.

use std::sync::{Arc, Mutex};

use allod_core::{Durability, Error, FlushReport, Options, Platform, Store};
use allod_mem::{Call, Operation, OperationKind, Stats, StatsHandle, Trace};

use crate::bench::*;
use crate::refused;

pub fn what_was_flushed_is_there_and_what_was_not_is_gone<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", &pattern(1, 10_000));
    live.flush().unwrap();
    a.append(b"lost").unwrap();
    a.write_at(0, b"lost").unwrap();
    live.create_region("lost").unwrap();
    drop((live, a));
    let live = reopen(&bench);
    assert_eq!(live.len(), 1);
    assert_eq!(content(&live)["a"], pattern(1, 10_000));
}

pub fn closing_flushes<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    region(&live, "a", b"kept");
    assert_eq!(live.close().unwrap().regions, 1);
    assert_eq!(content(&reopen(&bench))["a"], b"kept");
}

pub fn three_flushes_and_reopening_after_each<B: Bench>() {
    let bench = B::fresh();
    drop(store(&bench));
    let mut expected = Vec::new();
    for i in 0..3 {
        let live = reopen(&bench);
        let a = live.region_or_create("a").unwrap();
        a.append(&pattern(i, 3333)).unwrap();
        expected.extend(pattern(i, 3333));
        live.flush().unwrap();
        drop((live, a));
        assert_eq!(content(&reopen(&bench))["a"], expected);
    }
}

pub fn the_store_keeps_its_id<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let id = live.id();
    region(&live, "a", b"x");
    live.flush().unwrap();
    drop(live);
    let live = reopen(&bench);
    assert_eq!(live.id(), id);
    live.checkpoint().unwrap();
    assert_eq!(live.id(), id);
    assert_ne!(store(&B::fresh()).id(), id);
}

/// Calls of the platform, each with the bytes that it left.
type Images = Arc<Mutex<Vec<(Operation, Vec<u8>)>>>;

/// Everything a caller can change, each followed by a flush, while the process may die after any
/// call of the platform: what is left is the state before that flush or the one behind it.
fn dies_anywhere<B: Bench>(options: &Options) {
    let bench = B::fresh();
    let opened = options.open(bench.platform()).unwrap();
    drop(opened);
    let images: Images = Arc::default();
    let (sink, watched) = (images.clone(), bench.clone());
    let platform = Trace::new(bench.platform(), move |call: &Call<'_>| {
        use OperationKind as K;
        let kind = call.operation.kind();
        if matches!(kind, K::Grow | K::Cut | K::Write | K::WriteSync | K::Punch) {
            sink.lock().unwrap().push((*call.operation, watched.bytes()));
        }
    });
    let live = options.open(platform).unwrap();
    type Step<P> = Box<dyn Fn(&Store<P>)>;
    let steps: Vec<Step<Trace<B::Platform>>> = vec![
        Box::new(|s| drop(s.create_region("a").unwrap())),
        Box::new(|s| drop(region(s, "b", &pattern(1, 9000)))),
        Box::new(|s| _ = s.region("a").unwrap().append(&pattern(2, 20_000)).unwrap()),
        Box::new(|s| s.region("b").unwrap().write_at(4000, &pattern(3, 200)).unwrap()),
        Box::new(|s| s.region("b").unwrap().write_at(4090, &pattern(4, 4000)).unwrap()),
        Box::new(|s| s.region("a").unwrap().truncate(5000).unwrap()),
        Box::new(|s| {
            s.region("a").unwrap().append(&pattern(5, 7000)).unwrap();
            s.region("b").unwrap().truncate(100).unwrap();
        }),
        Box::new(|s| s.rename_region("a", "c").unwrap()),
        Box::new(|s| {
            s.remove_region("c").unwrap();
            region(s, "a", &pattern(6, 90_000));
        }),
        Box::new(|s| {
            region(s, "d", &pattern(7, 12_000));
            s.region("a").unwrap().write_at(50_000, &pattern(8, 20_000)).unwrap();
        }),
        Box::new(|s| s.remove_region("b").unwrap()),
        Box::new(|s| s.region("a").unwrap().replace(&pattern(9, 70_000)).unwrap()),
        Box::new(|s| _ = s.region("d").unwrap().append(&pattern(10, 200_000)).unwrap()),
        Box::new(|s| _ = s.checkpoint().unwrap()),
        Box::new(|s| s.region("d").unwrap().write_at(0, &pattern(11, 100)).unwrap()),
    ];
    let mut before = content(&live);
    for round in 0..2 {
        for (number, step) in steps.iter().enumerate() {
            images.lock().unwrap().clear();
            step(&live);
            let after = content(&live);
            live.flush().unwrap();
            for (operation, image) in std::mem::take(&mut *images.lock().unwrap()) {
                let left = content(&reopen(&B::holding(&image)));
                assert!(
                    left == before || left == after,
                    "round {round}, step {number}: dead after {operation}, neither nor"
                );
            }
            assert!(after_death(&bench) == after, "round {round}, step {number}: acknowledged");
            before = after;
        }
        live.retain_regions(|_| false).unwrap();
        live.flush().unwrap();
        before = Content::new();
    }
}

pub fn a_process_that_dies_anywhere_leaves_one_state_or_the_other<B: Bench>() {
    dies_anywhere::<B>(&small());
}

pub fn a_process_that_dies_in_large_flushes_leaves_one_state_or_the_other<B: Bench>() {
    dies_anywhere::<B>(&small().inline_limit(4096));
}

pub fn a_process_that_dies_in_checkpoints_leaves_one_state_or_the_other<B: Bench>() {
    dies_anywhere::<B>(&small().journal_size(0).memory_budget(0));
}

pub fn a_flush_to_the_kernel_survives_the_process<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", b"one");
    let report = live.flush_with(Durability::Process).unwrap();
    assert_eq!(report.syncs, 0);
    assert_eq!(after_death(&bench)["a"], b"one");
    for i in 0..40u64 {
        a.append(&pattern(i, 3000)).unwrap();
        a.write_at(i * 100, b"x").unwrap();
        live.flush_with(Durability::Process).unwrap();
        assert!(after_death(&bench) == content(&live), "{i}");
    }
    live.flush().unwrap();
    assert!(after_death(&bench) == content(&live));
}

type Counted<B> = (B, Store<Stats<<B as Bench>::Platform>>, StatsHandle);

fn counted<B: Bench>(options: &Options) -> Counted<B> {
    let bench = B::fresh();
    let platform = Stats::new(bench.platform());
    let handle = platform.handle();
    let store = options.open(platform).unwrap();
    (bench, store, handle)
}

/// A flush, its report checked against what the platform counted.
fn reported<P: Platform>(store: &Store<P>, handle: &StatsHandle) -> FlushReport {
    let before = handle.counts();
    let report = store.flush().unwrap();
    let done = handle.counts().since(&before);
    assert_eq!(u64::from(report.syncs), done.syncs(), "syncs reported and done");
    assert!(report.bytes <= done.bytes_written(), "{report:?} of {}", done.bytes_written());
    report
}

pub fn a_small_flush_is_one_sync<B: Bench>() {
    let (_bench, live, handle) = counted::<B>(&Options::new());
    let a = region(&live, "a", &pattern(1, 1000));
    let report = reported(&live, &handle);
    assert_eq!((report.syncs, report.regions, report.checkpoint), (1, 1, false));
    assert!(report.bytes >= 1000);
    a.write_at(10, b"x").unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
    a.truncate(5).unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
    a.rename("b").unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
    a.append(&pattern(1, 900_000)).unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
    a.remove().unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
}

pub fn many_small_flushes_are_one_sync_each<B: Bench>() {
    let (_bench, live, handle) = counted::<B>(&Options::new());
    let a = live.create_region("a").unwrap();
    for i in 0..500 {
        a.append(&pattern(i, 100)).unwrap();
        assert_eq!(reported(&live, &handle).syncs, 1, "flush {i}");
    }
}

pub fn a_large_flush_is_two_syncs<B: Bench>() {
    let (bench, live, handle) = counted::<B>(&Options::new());
    let a = region(&live, "a", &pattern(1, 3_000_000));
    let report = reported(&live, &handle);
    assert_eq!((report.syncs, report.checkpoint), (2, false));
    assert!(after_death(&bench)["a"] == pattern(1, 3_000_000));
    a.append(&pattern(2, 2_000_000)).unwrap();
    assert_eq!(reported(&live, &handle).syncs, 2);
    a.append(&pattern(2, 2000)).unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
}

pub fn a_checkpoint_is_three_syncs<B: Bench>() {
    let (_bench, live, handle) = counted::<B>(&Options::new());
    region(&live, "a", b"x");
    let before = handle.counts();
    let report = live.checkpoint().unwrap();
    assert_eq!((report.syncs, report.checkpoint), (3, true));
    assert_eq!(handle.counts().since(&before).syncs(), 3);
    let again = live.checkpoint().unwrap();
    assert_eq!((again.syncs, again.generation), (3, report.generation + 1));
}

pub fn a_flush_with_nothing_to_do_costs_nothing<B: Bench>() {
    let (bench, live, handle) = counted::<B>(&Options::new());
    region(&live, "a", b"x");
    let generation = live.flush().unwrap().generation;
    let before = handle.counts();
    for _ in 0..3 {
        let report = live.flush().unwrap();
        assert_eq!((report.syncs, report.bytes, report.regions), (0, 0, 0));
        assert_eq!(report.generation, generation);
        assert_eq!(live.flush_with(Durability::Process).unwrap().bytes, 0);
    }
    assert_eq!(handle.counts(), before, "the platform was not called");
    drop(live);
    let platform = Stats::new(bench.platform());
    let handle = platform.handle();
    let live = Options::new().open(platform).unwrap();
    let before = handle.counts();
    assert_eq!(live.flush_with(Durability::Process).unwrap().syncs, 0);
    assert_eq!(handle.counts().since(&before).bytes_written(), 0);
    // What was found may be in a cache and not on the device: the first flush makes sure.
    let report = live.flush().unwrap();
    assert_eq!((report.syncs, report.checkpoint), (3, true));
    assert_eq!(handle.counts().since(&before).syncs(), 3);
    assert_eq!(content(&live)["a"], b"x");
    let before = handle.counts();
    assert_eq!(live.flush().unwrap().syncs, 0);
    assert_eq!(live.flush_with(Durability::Process).unwrap().syncs, 0);
    let done = handle.counts().since(&before);
    assert_eq!((done.syncs(), done.bytes_written()), (0, 0));
}

pub fn opening_writes_nothing_and_the_first_change_costs_three_syncs<B: Bench>() {
    let (bench, live, _) = counted::<B>(&Options::new());
    region(&live, "a", b"x");
    live.flush().unwrap();
    drop(live);
    let bytes = bench.bytes();
    let platform = Stats::new(bench.platform());
    let handle = platform.handle();
    let live = Options::new().open(platform).unwrap();
    assert_eq!(handle.counts().syncs() + handle.counts().bytes_written(), 0);
    assert!(bench.bytes() == bytes);
    let a = live.region("a").unwrap();
    a.append(b"y").unwrap();
    assert_eq!(handle.counts().syncs(), 3);
    a.append(b"z").unwrap();
    assert_eq!(handle.counts().syncs(), 3);
    assert_eq!(reported(&live, &handle).syncs, 1);
    assert_eq!(after_death(&bench)["a"], b"xyz");
}

pub fn a_kernel_flush_is_made_durable_by_the_next_flush<B: Bench>() {
    let (bench, live, handle) = counted::<B>(&Options::new());
    let a = region(&live, "a", b"x");
    live.flush_with(Durability::Process).unwrap();
    assert_eq!(handle.counts().syncs(), 3, "those of the creation");
    assert_eq!(reported(&live, &handle).syncs, 1, "although nothing changed since");
    assert_eq!(reported(&live, &handle).syncs, 0);
    a.append(b"y").unwrap();
    live.flush_with(Durability::Process).unwrap();
    a.append(b"z").unwrap();
    assert_eq!(reported(&live, &handle).syncs, 1);
    assert_eq!(after_death(&bench)["a"], b"xyz");
}

pub fn cost_follows_change_not_size<B: Bench>() {
    let (bench, live, handle) = counted::<B>(&Options::new());
    for i in 0..10_000 {
        region(&live, &format!("region number {i}"), b"8 bytes.");
    }
    live.flush().unwrap();
    live.checkpoint().unwrap();
    for i in [17, 9999, 17] {
        let a = live.region(&format!("region number {i}")).unwrap();
        a.append(b"8 more..").unwrap();
        let before = handle.counts();
        let report = live.flush().unwrap();
        let done = handle.counts().since(&before);
        assert_eq!((report.syncs, report.regions), (1, 1));
        // A page of image, its batch, its place; and zeros ahead, now and then.
        assert!(report.bytes <= 300 << 10, "{report:?}");
        assert!(done.bytes_read() <= 16 << 10, "{} bytes read", done.bytes_read());
    }
    let mut least = u64::MAX;
    for _ in 0..5 {
        live.region("region number 5").unwrap().append(b"8 more..").unwrap();
        let before = handle.counts();
        live.flush().unwrap();
        least = least.min(handle.counts().since(&before).bytes_written());
    }
    assert!(least <= 16 << 10, "{least} bytes written for 8");
    assert_eq!(after_death(&bench).len(), 10_000);
}

pub fn eight_bytes_to_each_of_many_regions_do_not_cost_a_page_each<B: Bench>() {
    let (_bench, live, handle) = counted::<B>(&Options::new());
    let regions: Vec<_> = (0..2000).map(|i| region(&live, &format!("{i}"), b"8 bytes.")).collect();
    live.flush().unwrap();
    for round in 0..2 {
        for a in &regions {
            a.append(b"8 more..").unwrap();
        }
        let report = reported(&live, &handle);
        assert!(report.bytes < 2000 * 1000, "round {round}: {} bytes", report.bytes);
    }
}

pub fn the_same_calls_give_the_same_bytes<B: Bench>() {
    let run = || {
        let bench = B::seeded(7)?;
        let live = small().open(bench.platform()).unwrap();
        for i in 0..80u64 {
            let name = format!("r{}", i % 9);
            let a = live.region_or_create(&name).unwrap();
            a.append(&pattern(i, (i * 997 % 20_000) as usize)).unwrap();
            match i % 11 {
                3 => a.truncate(a.len().unwrap() / 2).unwrap(),
                5 => a.remove().unwrap(),
                7 => _ = live.flush_with(Durability::Process).unwrap(),
                8 => a.rename(&format!("n{i}")).unwrap(),
                9 => _ = live.checkpoint().unwrap(),
                _ => _ = live.flush().unwrap(),
            }
        }
        live.close().unwrap();
        Some(bench.bytes())
    };
    let (one, two) = (run(), run());
    assert!(one == two, "two runs differ");
}

pub fn a_hold_keeps_several_calls_in_one_flush<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", b"");
    live.flush().unwrap();
    let hold = live.hold().unwrap();
    refused!(live.flush(), Error::HoldActive);
    refused!(a.flush(), Error::HoldActive);
    refused!(live.flush_with(Durability::Process), Error::HoldActive);
    refused!(live.checkpoint(), Error::HoldActive);
    refused!(live.hold(), Error::HoldActive);
    a.append(b"first").unwrap();
    let b = region(&live, "b", b"second");
    b.rename("c").unwrap();
    refused!(live.flush(), Error::HoldActive);
    assert_eq!(after_death(&bench)["a"], b"");
    let report = hold.flush().unwrap();
    assert_eq!(report.regions, 2);
    let left = after_death(&bench);
    assert_eq!((&left["a"][..], &left["c"][..]), (&b"first"[..], &b"second"[..]));
    let hold = live.hold().unwrap();
    a.append(b"!").unwrap();
    drop(hold);
    assert_eq!(after_death(&bench)["a"], b"first", "dropping does not flush");
    assert_eq!(live.flush().unwrap().regions, 1);
    assert_eq!(after_death(&bench)["a"], b"first!");
}

pub fn a_hold_as_the_first_thing_after_opening<B: Bench>() {
    let bench = B::fresh();
    region(&store(&bench), "a", b"x").flush().unwrap();
    let live = reopen(&bench);
    let hold = live.hold().unwrap();
    live.region("a").unwrap().append(b"y").unwrap();
    live.region("a").unwrap().reserve(100_000).unwrap();
    assert!(live.id() != 0);
    hold.flush().unwrap();
    assert_eq!(after_death(&bench)["a"], b"xy");
}

pub fn a_thousand_flushes_through_many_generations<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = live.create_region("a").unwrap();
    let mut checkpoints = 0;
    let mut expected = Vec::new();
    for i in 0..1000u64 {
        let bytes = pattern(i, 37);
        a.append(&bytes).unwrap();
        expected.extend(bytes);
        let at = (i * 31) as usize % (expected.len() - 5);
        a.write_at(at as u64, b"there").unwrap();
        expected[at..at + 5].copy_from_slice(b"there");
        checkpoints += u32::from(live.flush().unwrap().checkpoint);
        if i % 50 == 0 {
            assert!(after_death(&bench)["a"] == expected, "flush {i}");
        }
    }
    assert!(checkpoints >= 10, "{checkpoints} checkpoints");
    assert!(after_death(&bench)["a"] == expected);
}
