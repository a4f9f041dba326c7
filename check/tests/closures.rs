//! The checker for code of one's own finds what is wrong with it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allod_check::{Broken, Checker, Report, quiet_panics};
use allod_core::{Error, Store};
use allod_mem::SimDisk;

fn number(store: &Store<SimDisk>, name: &str) -> Option<u64> {
    let bytes = store.region(name)?.read_all().ok()?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Two regions that are to hold the same number; `together` says whether they change in one flush.
fn twins(checker: &Checker, together: bool) -> Result<Report, Broken> {
    checker.run(
        |store| {
            let twins = [store.create_region("a")?, store.create_region("b")?];
            for n in 0..6u64 {
                for twin in &twins {
                    twin.replace(&n.to_le_bytes())?;
                    if !together {
                        store.flush()?;
                    }
                }
                store.flush()?;
            }
            Ok::<(), Error>(())
        },
        |recovered| match (number(recovered, "a"), number(recovered, "b")) {
            (a, b) if a == b => Ok(()),
            (a, b) => Err(format!("a is {a:?}, b is {b:?}")),
        },
    )
}

#[test]
fn code_that_is_right_passes() {
    let report = twins(&Checker::new(1), true).expect("twins that change together");
    assert!(report.states > 50 && report.calls > 10, "{report:?}");
    assert_eq!(twins(&Checker::new(1), true), Ok(report), "the same seed tries the same");
}

#[test]
fn code_that_flushes_halfway_is_found_out_and_can_be_replayed() {
    let broken = twins(&Checker::new(1), false).expect_err("twins that change one by one");
    let (call, _, image) = broken.crash.clone().expect("a crash image");
    assert!(broken.to_string().contains(&image.to_string()), "{broken}");
    let again = twins(&Checker::new(1).only(call, image), false).expect_err("the same image");
    assert_eq!(again, broken);
    assert!(twins(&Checker::new(1).only(call, image), true).expect("the other code").states <= 1);
}

#[test]
fn an_acknowledgement_without_a_flush_is_found_out() {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let promised = Arc::clone(&acknowledged);
    let broken = Checker::new(2).images(50, 6).run(
        |store| {
            let region = store.create_region("n")?;
            for n in 1..9u64 {
                region.replace(&n.to_le_bytes())?;
                if n % 4 != 0 {
                    store.flush()?;
                }
                acknowledged.store(n, Ordering::SeqCst);
            }
            Ok::<(), Error>(())
        },
        move |recovered| {
            let (found, promised) = (number(recovered, "n"), promised.load(Ordering::SeqCst));
            match found.unwrap_or(0) {
                found if found >= promised => Ok(()),
                found => Err(format!("{found} of {promised}")),
            }
        },
    );
    assert_eq!(broken.expect_err("what was not flushed is lost").what, "3 of 4");
}

#[test]
fn work_that_fails_and_invariants_that_panic_are_told() {
    quiet_panics();
    let failed = Checker::new(3).run(|_| Err("no"), |_| Ok(()));
    assert_eq!(failed.expect_err("it failed").to_string(), "the work failed: no");
    let panicked = Checker::new(3).run(
        |store| store.create_region("a").and_then(|_| store.flush()).map(|_| ()),
        |_| panic!("never"),
    );
    assert!(panicked.expect_err("it panicked").what.starts_with("panic: never"));
}
