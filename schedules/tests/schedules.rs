//! The whole store under the scheduler: appenders, readers, flushers, compaction, removal. Each test
//! runs under thousands of schedules; a failure prints the schedule that `shuttle::replay` takes.

use std::sync::Arc;

use allod_core::{Options, Store};
use allod_mem::MemPlatform;
use allod_schedules::ScheduledMem;
use shuttle::thread;

type Scheduled = Store<ScheduledMem>;

fn options() -> Options {
    Options::new().journal_size(64 << 10).inline_limit(8 << 10).memory_budget(64 << 10)
}

fn numbers(image: &Store<MemPlatform>, name: &str) -> Vec<u8> {
    image.region(name).map(|region| region.read_all().expect("reading")).unwrap_or_default()
}

/// How many times more schedules to try: `ALLOD_SCHEDULES`, or 1.
fn scale() -> usize {
    std::env::var("ALLOD_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Runs `body` under `count` schedules of each kind.
fn explore(count: usize, body: impl Fn() + Send + Sync + Clone + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = shuttle::MaxSteps::ContinueAfter(200_000);
    let random = shuttle::scheduler::RandomScheduler::new(count);
    shuttle::Runner::new(random, config.clone()).run(body.clone());
    let few_changes = shuttle::scheduler::PctScheduler::new(3, count);
    shuttle::Runner::new(few_changes, config).run(body);
}

/// Promise 2: a writer appends to `a` and then to `b`, while others flush; what a dying process
/// leaves never has more in `b` than in `a`, and never less than what was acknowledged.
fn consistent_cut() {
    let platform = ScheduledMem::new();
    let store = Arc::new(options().open(platform.clone()).expect("a new store"));
    for name in ["a", "b"] {
        store.create_region(name).expect("creating");
    }
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            let (a, b) = (store.region("a").expect("there"), store.region("b").expect("there"));
            for i in 0..4u8 {
                a.append(&[i; 3000]).expect("appending");
                b.append(&[i; 3000]).expect("appending");
            }
        })
    };
    let flusher = {
        let (store, platform) = (store.clone(), platform.clone());
        thread::spawn(move || {
            for _ in 0..3 {
                store.flush().expect("flushing");
                check_image(&platform, 0);
            }
        })
    };
    check_image(&platform, 0);
    writer.join().expect("the writer");
    store.flush().expect("flushing");
    check_image(&platform, 4 * 3000);
    flusher.join().expect("the flusher");
}

fn check_image(platform: &ScheduledMem, at_least: usize) {
    let image = options().read_only(true).open(platform.snapshot()).expect("an image opens");
    let (a, b) = (numbers(&image, "a"), numbers(&image, "b"));
    for bytes in [&a, &b] {
        assert!(bytes.len() % 3000 == 0, "half an append");
        assert!(bytes.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / 3000));
    }
    assert!(a.len() == b.len() || a.len() == b.len() + 3000, "{} and {}", a.len(), b.len());
    assert!(b.len() >= at_least, "what was acknowledged is gone");
}

/// Everything at once: appends that move regions, overwrites, flushes of both kinds, compaction,
/// removal and a reader; in the end nothing is lost, and each page has one owner.
fn everything() {
    let platform = ScheduledMem::new();
    let store: Arc<Scheduled> = Arc::new(options().open(platform.clone()).expect("a new store"));
    let log = store.create_region("log").expect("creating");
    let table = store.create_region("table").expect("creating");
    table.append(&[1; 20_000]).expect("appending");
    let gone = store.create_region("gone").expect("creating");
    gone.append(&[9; 30_000]).expect("appending");
    store.flush().expect("flushing");
    let mut threads = Vec::new();
    {
        let log = log.clone();
        threads.push(thread::spawn(move || {
            for i in 0..6u8 {
                log.append(&[i; 9000]).expect("appending");
            }
        }));
    }
    {
        let table = table.clone();
        threads.push(thread::spawn(move || {
            for i in 0..5u8 {
                let reader = table.reader().expect("a reader");
                let before = reader.read_all().expect("reading").into_owned();
                table.write_at(u64::from(i) * 3500, &[i + 2; 3500]).expect("writing");
                assert!(*reader.read_all().expect("reading") == *before, "a snapshot moved");
            }
        }));
    }
    {
        let store = store.clone();
        threads.push(thread::spawn(move || {
            store.flush().expect("flushing");
            gone.remove().expect("removing");
            store.flush_with(allod_core::Durability::Process).expect("flushing");
            store.checkpoint().expect("a checkpoint");
        }));
    }
    {
        let store = store.clone();
        threads.push(thread::spawn(move || {
            store.compact().expect("compacting");
        }));
    }
    for thread in threads {
        thread.join().expect("a thread");
    }
    store.flush().expect("flushing");
    let image = options().open(platform.snapshot()).expect("an image opens");
    let expected: Vec<u8> = (0..6u8).flat_map(|i| [i; 9000]).collect();
    assert!(numbers(&image, "log") == expected, "appends are lost");
    let mut expected: Vec<u8> = (0..5u8).flat_map(|i| [i + 2; 3500]).collect();
    expected.resize(20_000, 1);
    assert!(numbers(&image, "table") == expected, "overwrites are lost");
    assert!(image.region("gone").is_none());
    let found = store.verify().expect("verifying");
    assert!(found.is_clean(), "{:?}", found.findings);
}

/// Promise 4: callers that flush at the same time share syncs, and each gets what it asked for.
fn shared_flushes() {
    let platform = ScheduledMem::new();
    let store = Arc::new(options().open(platform.clone()).expect("a new store"));
    let threads: Vec<_> = (0..3u8)
        .map(|writer| {
            let (store, platform) = (store.clone(), platform.clone());
            thread::spawn(move || {
                let name = format!("r{writer}");
                let region = store.region_or_create(&name).expect("creating");
                for i in 1..=2usize {
                    region.append(&[writer; 100]).expect("appending");
                    store.flush().expect("flushing");
                    let image = options().read_only(true).open(platform.snapshot());
                    let image = image.expect("an image opens");
                    assert!(numbers(&image, &name).len() == 100 * i, "acknowledged and gone");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
}

#[test]
fn the_cut_is_consistent_under_every_schedule_tried() {
    explore(1_500 * scale(), consistent_cut);
}

#[test]
fn nothing_is_lost_under_every_schedule_tried() {
    explore(700 * scale(), everything);
}

#[test]
fn shared_flushes_keep_their_promises_under_every_schedule_tried() {
    explore(1_500 * scale(), shared_flushes);
}
