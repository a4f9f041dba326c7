//! Several threads on one store. Each test ends by itself unless threads wait for each other for
//! ever, which the time limit of the test run finds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;

use allod_core::{Error, Options};
use allod_mem::Stats;

use crate::bench::*;

pub fn ten_threads_create_ten_regions<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    scope(|s| {
        for i in 0..10u64 {
            let live = &live;
            s.spawn(move || region(live, &format!("{i}"), &pattern(i, 10_000)).flush().unwrap());
        }
    });
    let left = after_death(&bench);
    for i in 0..10u64 {
        assert!(left[&format!("{i}")] == pattern(i, 10_000));
    }
}

pub fn one_of_many_creators_of_a_name_wins<B: Bench>() {
    let live = store(&B::fresh());
    for round in 0..20 {
        let made = AtomicU64::new(0);
        scope(|s| {
            for _ in 0..4 {
                s.spawn(|| match live.create_region(&format!("{round}")) {
                    Ok(_) => _ = made.fetch_add(1, Ordering::Relaxed),
                    Err(Error::RegionExists { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}

pub fn no_append_of_several_threads_is_lost_or_mixed<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = live.create_region("a").unwrap();
    scope(|s| {
        for thread in 0..4u8 {
            let a = a.clone();
            s.spawn(move || {
                for i in 0..1500u32 {
                    let mut record = vec![thread; 8 + (i % 90) as usize];
                    record[0] = record.len() as u8;
                    let at = a.append(&record).unwrap();
                    assert_eq!(a.read(at, record.len() as u64).unwrap(), record);
                }
            });
        }
        s.spawn(|| {
            for _ in 0..30 {
                live.flush().unwrap();
            }
        });
    });
    live.flush().unwrap();
    let bytes = a.read_all().unwrap();
    assert!(after_death(&bench)["a"] == bytes);
    let (mut at, mut counts) = (0, [0; 4]);
    while at < bytes.len() {
        let record = &bytes[at..at + bytes[at] as usize];
        assert!(record[2..].iter().all(|byte| *byte == record[1]), "records are mixed");
        counts[record[1] as usize] += 1;
        at += record.len();
    }
    assert_eq!(counts, [1500; 4]);
}

pub fn no_flushed_state_has_b_without_a<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let regions: Vec<_> = (0..5).map(|i| region(&live, &format!("{i}"), &[0; 8])).collect();
    live.flush().unwrap();
    let done = AtomicBool::new(false);
    scope(|s| {
        // One number goes through the regions in order; a state may be in the middle of a round.
        s.spawn(|| {
            for round in 1..4000u64 {
                for region in &regions {
                    region.write_at(0, &round.to_le_bytes()).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        s.spawn(|| {
            while !done.load(Ordering::Acquire) {
                live.flush().unwrap();
                let left = after_death(&bench);
                let numbers: Vec<u64> = left
                    .values()
                    .map(|bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()))
                    .collect();
                let in_order = numbers.windows(2).all(|pair| pair[0] >= pair[1]);
                assert!(in_order && numbers[0] <= numbers[4] + 1, "{numbers:?}");
            }
        });
    });
}

pub fn a_hold_of_one_thread_keeps_the_flushes_of_others_out<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let (a, b) = (region(&live, "a", &[0; 8]), region(&live, "b", &[0; 8]));
    live.flush().unwrap();
    let done = AtomicBool::new(false);
    scope(|s| {
        s.spawn(|| {
            for i in 1..2000u64 {
                let hold = live.hold().unwrap();
                b.write_at(0, &i.to_le_bytes()).unwrap();
                a.write_at(0, &i.to_le_bytes()).unwrap();
                match i % 100 {
                    0 => _ = hold.flush().unwrap(),
                    _ => drop(hold),
                }
            }
            done.store(true, Ordering::Release);
        });
        s.spawn(|| {
            while !done.load(Ordering::Acquire) {
                live.flush().unwrap();
                let left = after_death(&bench);
                assert_eq!(left["a"], left["b"], "a hold was divided");
            }
        });
    });
}

pub fn whoever_holds_the_cut_may_do_anything_but_flush<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", b"");
    let flushing = AtomicBool::new(true);
    scope(|s| {
        s.spawn(|| {
            while flushing.load(Ordering::Acquire) {
                live.flush().unwrap();
            }
        });
        for i in 0..3000u64 {
            let hold = live.hold().unwrap();
            a.append(b"12345678").unwrap();
            let b = live.region_or_create("b").unwrap();
            b.append(&pattern(i, 100)).unwrap();
            b.reserve(1000 + i * 10).unwrap();
            assert!(live.poisoned().is_none());
            assert!(live.len() >= 2 && live.regions().len() >= 2);
            if i % 50 == 0 {
                b.remove().unwrap();
            }
            live.reserve_len(i * 10).unwrap();
            drop(hold);
        }
        flushing.store(false, Ordering::Release);
    });
    assert_eq!(a.len().unwrap(), 3000 * 8);
}

pub fn whoever_holds_the_cut_may_ask_for_anything<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", b"");
    let flushing = AtomicBool::new(true);
    scope(|s| {
        s.spawn(|| {
            while flushing.load(Ordering::Acquire) {
                live.flush().unwrap();
            }
        });
        for _ in 0..300u64 {
            a.append(b"12345678").unwrap();
            let hold = live.hold().unwrap();
            for _ in 0..20 {
                // Meanwhile the other thread begins a flush, and finds the cut held open.
                std::thread::yield_now();
                assert!(live.id() != 0);
                assert_eq!(live.stats().regions, 1);
                assert!(live.disk_usage().unwrap().file_len > 0);
            }
            drop(hold);
        }
        flushing.store(false, Ordering::Release);
    });
}

pub fn concurrent_flushes_share_syncs<B: Bench>() {
    let bench = B::fresh();
    let platform = Stats::new(bench.platform());
    let handle = platform.handle();
    let live = Options::new().open(platform).unwrap();
    let before = handle.counts().syncs();
    let (shared, syncs) = (AtomicU64::new(0), AtomicU64::new(0));
    scope(|s| {
        for thread in 0..8 {
            let (live, shared, syncs) = (&live, &shared, &syncs);
            s.spawn(move || {
                let a = region(live, &format!("{thread}"), b"");
                for i in 0..100u64 {
                    a.append(&i.to_le_bytes()).unwrap();
                    let report = live.flush().unwrap();
                    if report.shared {
                        shared.fetch_add(1, Ordering::Relaxed);
                    } else {
                        syncs.fetch_add(u64::from(report.syncs), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let done = handle.counts().syncs() - before;
    assert_eq!(done, syncs.load(Ordering::Relaxed), "reports and counts differ");
    let left = after_death(&bench);
    assert!(left.len() == 8 && left.values().all(|bytes| bytes.len() == 800));
}

pub fn twenty_readers_beside_a_writer_see_whole_states<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    // Every state is some number of copies of one byte.
    let a = region(&live, "a", &[1; 5000]);
    live.flush().unwrap();
    let done = AtomicBool::new(false);
    scope(|s| {
        for _ in 0..20 {
            s.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let reader = a.reader().unwrap();
                    let one = reader.read_all().unwrap().into_owned();
                    assert!(one.iter().all(|byte| *byte == one[0]), "a torn state");
                    assert!(*reader.read_all().unwrap() == *one, "a reader changed");
                }
            });
        }
        s.spawn(|| {
            for i in 0..400usize {
                let len = 3000 + i * 977 % 90_000;
                a.replace(&vec![i as u8; len]).unwrap();
                if i % 3 == 0 {
                    live.flush().unwrap();
                }
                a.write_at(0, &vec![(i + 1) as u8; len]).unwrap();
                a.append(&[(i + 1) as u8; 100]).unwrap();
            }
            done.store(true, Ordering::Release);
        });
    });
    live.flush().unwrap();
    assert!(after_death(&bench) == content(&live));
}

pub fn two_readers_and_two_writers_never_wait_for_each_other<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let (a, b) = (region(&live, "a", &pattern(1, 9000)), region(&live, "b", &pattern(2, 9000)));
    scope(|s| {
        for (one, two) in [(&a, &b), (&b, &a)] {
            let live = &live;
            s.spawn(move || {
                for i in 0..150u64 {
                    let reader = one.reader().unwrap();
                    two.append(&pattern(i, 5000)).unwrap();
                    one.write_at(0, &pattern(i, 3000)).unwrap();
                    one.truncate(one.len().unwrap().min(50_000)).ok();
                    two.reserve(200_000).unwrap();
                    if i % 10 == 0 {
                        live.flush().unwrap();
                    }
                    assert!(reader.read_all().is_ok());
                }
            });
        }
    });
    live.flush().unwrap();
    assert!(after_death(&bench) == content(&live));
}

pub fn renaming_from_many_threads<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    scope(|s| {
        for thread in 0..4u64 {
            let live = &live;
            s.spawn(move || {
                let a = region(live, &format!("{thread}"), &pattern(thread, 500));
                for i in 0..200 {
                    match a.rename(&format!("{}", (thread + i) % 5)) {
                        Ok(()) | Err(Error::RegionExists { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    if i % 40 == 0 {
                        live.flush().unwrap();
                    }
                }
            });
        }
    });
    live.flush().unwrap();
    let left = after_death(&bench);
    assert!(left == content(&live) && left.len() == 4);
    for thread in 0..4 {
        assert_eq!(left.values().filter(|bytes| **bytes == pattern(thread, 500)).count(), 1);
    }
}

pub fn creating_and_removing_beside_flushes_and_checkpoints<B: Bench>() {
    let bench = B::fresh();
    let live = store(&bench);
    let done = AtomicBool::new(false);
    scope(|s| {
        let writers: Vec<_> = (0..3u64)
            .map(|thread| {
                let live = &live;
                s.spawn(move || {
                    for i in 0..300u64 {
                        let name = format!("{thread} {}", i % 5);
                        if let Some(a) = live.region(&name) {
                            let all = a.read_all().unwrap();
                            let seed = u64::from_le_bytes(all[..8].try_into().unwrap());
                            assert!(all[8..] == pattern(seed, all.len() - 8));
                            a.remove().unwrap();
                        }
                        let seed = thread * 1000 + i;
                        let mut bytes = seed.to_le_bytes().to_vec();
                        bytes.extend(pattern(seed, (i * 997 % 30_000) as usize));
                        let hold = live.hold().unwrap();
                        region(live, &name, &bytes);
                        drop(hold);
                    }
                })
            })
            .collect();
        s.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Acquire) {
                round += 1;
                if round % 7 == 0 {
                    live.checkpoint().unwrap()
                } else {
                    live.flush().unwrap()
                };
                for (name, all) in after_death(&bench) {
                    let seed = u64::from_le_bytes(all[..8].try_into().unwrap());
                    assert!(all[8..] == pattern(seed, all.len() - 8), "{name} is not itself");
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    live.flush().unwrap();
    assert!(after_death(&bench) == content(&live));
}
