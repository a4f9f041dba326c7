//! A machine that fails: syncs (promise 6), writes, reads, maps, and a disk that fills up (5).
//! Every call of a script fails in turn.

use allod_core::{Error, Options, PlatformErrorKind, Region, Store};
use allod_mem::{Fault, FaultHandle, FaultRule, OperationKind, OperationSet, Part, When};

use crate::bench::*;
use crate::refused;
use crate::script::SCRIPT;

type Faulty<B> = Fault<<B as Bench>::Platform>;

fn faulty<B: Bench>(bench: &B) -> (Faulty<B>, FaultHandle) {
    let platform = Fault::new(bench.platform(), 1);
    let handle = platform.handle();
    (platform, handle)
}

/// The options that the scripts run with: one that inlines, one that places.
fn ways() -> [Options; 2] {
    [small(), small().inline_limit(8192).memory_budget(100_000)]
}

/// What happened before a failure: everything, what the last flush acknowledged, and what the one
/// that failed would have made durable.
#[derive(Clone, Default)]
struct Known {
    now: Content,
    durable: Content,
    in_flight: Option<Content>,
}

fn refuses_everything_but_reading<B: Bench>(
    store: &Store<Faulty<B>>,
    region: Option<&Region<Faulty<B>>>,
) {
    assert!(store.poisoned().is_some());
    refused!(store.create_region("x"), Error::Poisoned { .. });
    refused!(store.region_or_create("x"), Error::Poisoned { .. });
    refused!(store.remove_region("a"), Error::Poisoned { .. });
    refused!(store.retain_regions(|_| true), Error::Poisoned { .. });
    refused!(store.reserve_len(1 << 30), Error::Poisoned { .. });
    for _ in 0..2 {
        refused!(store.flush(), Error::Poisoned { .. });
        refused!(store.checkpoint(), Error::Poisoned { .. });
    }
    let Some(a) = region else { return };
    refused!(a.append(b"x"), Error::Poisoned { .. });
    refused!(a.append(b""), Error::Poisoned { .. });
    refused!(a.write_at(0, b""), Error::Poisoned { .. });
    refused!(a.truncate(0), Error::Poisoned { .. });
    refused!(a.truncate_write(0, b"x"), Error::Poisoned { .. });
    refused!(a.replace(b"x"), Error::Poisoned { .. });
    refused!(a.reserve(1 << 20), Error::Poisoned { .. });
    refused!(a.rename("x"), Error::Poisoned { .. });
    refused!(a.remove(), Error::Poisoned { .. });
    refused!(a.appender(), Error::Poisoned { .. });
    refused!(a.flush(), Error::Poisoned { .. });
}

/// Runs the script on a new store while `rule` holds. After an error the store must be as before;
/// with a poisoned one the script ends. Answers whether the rule fired; then the machine is whole
/// again, and what is promised holds.
fn survives<B: Bench>(options: &Options, rule: FaultRule, allowed: PlatformErrorKind) -> bool {
    let what = format!("{rule:?}");
    let bench = B::fresh();
    let (platform, faults) = faulty(&bench);
    drop(options.open(platform).expect("a new store"));
    let (platform, faults) = {
        drop(faults);
        faulty(&bench)
    };
    let live = options.open(platform).expect("opening");
    faults.add(rule);
    let mut known = Known::default();
    let mut poisoned = false;
    for (number, step) in SCRIPT.iter().enumerate() {
        let seed = number as u64;
        let result = step.run(&live, seed);
        let context = format!("{what}: step {number}, {step:?}: {result:?}");
        match result {
            Ok(()) => {
                step.apply(&mut known.now, seed);
                if step.is_flush() {
                    known.durable = known.now.clone();
                }
            }
            Err(Error::Poisoned { .. }) => {
                let mut in_flight = known.now.clone();
                step.apply(&mut in_flight, seed);
                known.in_flight = step.is_flush().then_some(in_flight);
                poisoned = true;
            }
            Err(Error::Platform(error)) => assert_eq!(error.kind, allowed, "{context}"),
            Err(_) => panic!("{context}"),
        }
        faults.set_enabled(false);
        assert!(content(&live) == known.now, "{context}: not as it was before");
        faults.set_enabled(true);
        if poisoned {
            break;
        }
    }
    if faults.fired() == 0 {
        return false;
    }
    faults.clear();
    if poisoned {
        assert!(
            rule.operations != OperationSet::NONE.with(OperationKind::Grow)
                && rule.operations != OperationSet::from(OperationKind::Read),
            "{what} poisoned the store"
        );
        refuses_everything_but_reading::<B>(&live, live.region("a").as_ref());
        assert!(content(&live) == known.now);
        drop(live);
        let left = content(&reopen(&bench));
        let right = left == known.durable || known.in_flight.is_some_and(|state| left == state);
        assert!(right, "{what}: after the poison neither the old state nor the new");
        return true;
    }
    // What was acknowledged is there whatever comes, and with a whole machine all goes on.
    assert!(after_death(&bench) == known.durable, "{what}: an acknowledged flush is lost");
    live.flush().unwrap_or_else(|error| panic!("{what}: the flush afterwards: {error}"));
    assert!(content(&live) == known.now, "{what}");
    drop(live);
    let live = reopen(&bench);
    assert!(content(&live) == known.now, "{what}: reopened");
    region(&live, "afterwards", &pattern(1, 100_000));
    known.now.insert("afterwards".into(), pattern(1, 100_000));
    live.flush().unwrap();
    assert!(after_death(&bench) == known.now, "{what}: after more work");
    true
}

/// Lets the rule fire at each of its calls in turn.
fn everywhere<B: Bench>(
    at_least: u64,
    allowed: PlatformErrorKind,
    rule: impl Fn(u64) -> FaultRule,
) {
    for options in ways() {
        let mut nth = 1;
        while survives::<B>(&options, rule(nth), allowed) {
            nth += 1;
        }
        assert!(nth > at_least, "only {nth} calls failed");
    }
}

pub fn a_failed_sync_is_final_wherever_it_happens<B: Bench>() {
    for part in [Part::Nothing, Part::Bytes(1000), Part::Everything] {
        everywhere::<B>(10, PlatformErrorKind::Io, |nth| {
            FaultRule::nth(OperationSet::SYNCS, nth, PlatformErrorKind::Io).part(part)
        });
    }
}

pub fn a_failed_write_loses_nothing_wherever_it_happens<B: Bench>() {
    for part in [Part::Nothing, Part::Bytes(1000), Part::Everything] {
        everywhere::<B>(20, PlatformErrorKind::Io, |nth| {
            FaultRule::nth(OperationKind::Write, nth, PlatformErrorKind::Io).part(part)
        });
    }
}

pub fn a_failed_read_loses_nothing_wherever_it_happens<B: Bench>() {
    for options in ways() {
        let mut nth = 1;
        let rule = |n| FaultRule::nth(OperationKind::Read, n, PlatformErrorKind::Io);
        while survives::<B>(&options, rule(nth), PlatformErrorKind::Io) {
            nth += 1;
        }
    }
}

pub fn a_failed_growth_loses_nothing_wherever_it_happens<B: Bench>() {
    everywhere::<B>(3, PlatformErrorKind::NoSpace, |nth| {
        FaultRule::nth(OperationKind::Grow, nth, PlatformErrorKind::NoSpace)
    });
}

pub fn a_disk_that_is_full_from_any_call_on_loses_nothing<B: Bench>() {
    for part in [Part::Nothing, Part::Bytes(1)] {
        everywhere::<B>(20, PlatformErrorKind::NoSpace, |nth| FaultRule {
            // What goes to pages that have their space does not run out of it.
            operations: OperationSet::NONE.with(OperationKind::Grow).with(OperationKind::Write),
            ..FaultRule::full_disk(nth).part(part)
        });
    }
}

pub fn a_disk_that_is_full_even_for_syncs_loses_nothing_acknowledged<B: Bench>() {
    everywhere::<B>(20, PlatformErrorKind::NoSpace, FaultRule::full_disk);
}

pub fn where_mapping_fails_readers_read<B: Bench>() {
    let bench = B::fresh();
    let (platform, faults) = faulty(&bench);
    faults.add(FaultRule {
        when: When::From(1),
        ..FaultRule::nth(OperationKind::Map, 1, PlatformErrorKind::Unsupported)
    });
    let live = small().open(platform).unwrap();
    let mut expected = Content::new();
    for (seed, step) in SCRIPT.iter().enumerate() {
        step.run(&live, seed as u64).unwrap();
        step.apply(&mut expected, seed as u64);
        assert!(content(&live) == expected, "{step:?}");
    }
    assert!(faults.fired() > 0);
}

/// Fails each call of an opening in turn, and opens again.
fn opening_fails<B: Bench>(operations: OperationSet, kind: PlatformErrorKind) {
    let original = B::fresh();
    let first = store(&original);
    region(&first, "a", &pattern(1, 30_000));
    first.flush().unwrap();
    first.region("a").unwrap().write_at(100, b"changed").unwrap();
    first.flush().unwrap();
    let expected = content(&first);
    drop(first);
    for new in [true, false] {
        let mut nth = 1;
        loop {
            let bench = if new { B::fresh() } else { original.copy() };
            let (platform, faults) = faulty(&bench);
            faults.add(FaultRule::nth(operations, nth, kind));
            let mut live = match small().open(platform) {
                Ok(store) => Some(store),
                Err(Error::Platform(error) | Error::Poisoned { cause: error }) => {
                    assert_eq!(error.kind, kind);
                    None
                }
                Err(error) => panic!("call {nth} of opening: {error:?}"),
            };
            if let Some(store) = &live {
                // The confirmation is part of the first change.
                let created = store.create_region("b");
                if let Err(error) = &created {
                    let right = matches!(error, Error::Platform(_) | Error::Poisoned { .. });
                    assert!(right, "call {nth}: {error:?}");
                    if store.poisoned().is_none() {
                        store.create_region("b").expect("a second try");
                        store.flush().expect("a flush");
                    } else {
                        live = None;
                    }
                }
            }
            let acknowledged = live.is_some_and(|store| store.flush().is_ok());
            let fired = faults.fired() > 0;
            let store = small().open(bench.platform()).expect("opening again");
            let mut left = content(&store);
            let b = left.remove("b");
            assert!(b.is_some() || !acknowledged, "call {nth}: the region is lost");
            let right = if new { left.is_empty() } else { left == expected };
            assert!(right, "call {nth} of opening ({operations:?}) left something else");
            if !fired {
                break;
            }
            nth += 1;
        }
    }
}

pub fn opening_that_fails_can_be_repeated<B: Bench>() {
    for kind in OperationKind::ALL {
        opening_fails::<B>(kind.into(), PlatformErrorKind::Io);
    }
}

pub fn readers_go_on_after_a_failed_sync<B: Bench>() {
    let bench = B::fresh();
    let (platform, faults) = faulty(&bench);
    let live = small().open(platform).unwrap();
    let a = region(&live, "a", &pattern(1, 50_000));
    live.flush().unwrap();
    let reader = a.reader().unwrap();
    let appender_of = region(&live, "b", b"b");
    let mut appender = appender_of.appender().unwrap();
    a.append(b"more").unwrap();
    faults.add(FaultRule::nth(OperationSet::SYNCS, 1, PlatformErrorKind::Io));
    refused!(live.flush(), Error::Poisoned { cause } if cause.kind == PlatformErrorKind::Io);
    refused!(appender.append(b"x"), Error::Poisoned { .. });
    assert!(*reader.read_all().unwrap() == *pattern(1, 50_000));
    assert_eq!(a.reader().unwrap().len(), 50_004);
    assert_eq!(live.regions().len(), 2);
    assert_eq!(a.name().unwrap(), "a");
    drop(live.hold());
    let hold = live.hold().unwrap();
    refused!(hold.flush(), Error::Poisoned { .. });
    drop(appender);
    refuses_everything_but_reading::<B>(&live, Some(&a));
    drop((live, a, appender_of));
    assert!(*reader.read_all().unwrap() == *pattern(1, 50_000));
}

/// Runs the script within a limit of space, again and again with more of it, until it fits: errors
/// say that the space is used up, nothing acknowledged is lost, and no limit poisons.
pub fn within<B: Bench>(limits: impl Iterator<Item = u64>, limited: impl Fn(u64) -> B) {
    let (mut failed, mut fitted) = (0, 0);
    for limit in limits {
        let bench = limited(limit);
        let live = match small().open(bench.platform()) {
            Ok(store) => store,
            Err(error) => {
                assert!(is_full(&error), "limit {limit}: {error:?}");
                failed += 1;
                continue;
            }
        };
        let mut known = Known::default();
        let mut full = false;
        for (seed, step) in (0..).zip(SCRIPT) {
            match step.run(&live, seed) {
                Ok(()) => {
                    step.apply(&mut known.now, seed);
                    if step.is_flush() {
                        known.durable = known.now.clone();
                    }
                }
                Err(error) => {
                    full = true;
                    assert!(is_full(&error), "limit {limit}, {step:?}: {error:?}");
                }
            }
            assert!(content(&live) == known.now, "limit {limit}, {step:?}");
        }
        if full {
            failed += 1
        } else {
            fitted += 1
        }
        drop(live);
        let left = content(&reopen(&bench));
        assert!(left == known.durable, "limit {limit}: an acknowledged flush is lost");
        // Removing makes room, also on a full disk that only holds what is durable.
        if let Ok(store) = small().open(bench.platform()) {
            if store.retain_regions(|_| false).is_ok() && store.flush().is_ok() {
                drop(store);
                assert!(reopen(&bench).is_empty());
            }
        }
    }
    assert!(failed > 3 && fitted > 0, "{failed} limits were too low, {fitted} not");
}
