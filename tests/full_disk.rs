//! File systems that fill up in the middle of everything: small ones in memory and in a file where
//! mounting is permitted, a limit on the size of files everywhere (promise 5).
//!
//! Every call that fails must say that there is no space and leave the store as it was; nothing that
//! was acknowledged may be lost; and with space again, the store must go on, unless it is poisoned,
//! which it may be only after a flush that failed.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use allod::{Create, Error, PlatformErrorKind};
use support::{Ledger, Mount, Report, TestResult, Work, child, child_argument, digest, skip};

const MIB: u64 = 1 << 20;

/// What was seen, so that a test can tell whether it tested anything.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    changes_refused: u32,
    flushes_refused: u32,
    poisoned: u32,
    went_on: u32,
    refused_at_opening: u32,
}

/// Fails unless the failure is one of a full disk. Answers whether the store is poisoned.
#[track_caller]
fn is_full(error: &Error) -> bool {
    match error {
        Error::Platform(error) => {
            assert_eq!(error.kind, PlatformErrorKind::NoSpace, "{error}");
            false
        }
        Error::Poisoned { cause } => {
            assert_eq!(cause.kind, PlatformErrorKind::NoSpace, "{cause}");
            true
        }
        other => panic!("not the failure of a full disk: {other}"),
    }
}

/// Works until changes and flushes have failed for want of space, a few times each or poisoned.
fn work_until_full(work: &mut Work, ledger: &mut Ledger, seen: &mut Seen) -> bool {
    let mut failures = 0;
    for _ in 0..20_000 {
        let flushing = work.below(4) == 0;
        let done = if flushing { work.flush(ledger) } else { work.change() };
        let Err(error) = done else { continue };
        let poisoned = is_full(&error);
        assert_eq!(poisoned, work.store.poisoned().is_some(), "{error}");
        if flushing {
            seen.flushes_refused += 1;
        } else {
            seen.changes_refused += 1;
        }
        // The call that failed has changed nothing, and readers go on.
        work.check();
        failures += 1;
        if poisoned || failures > 12 {
            return poisoned;
        }
    }
    panic!("the disk never was full");
}

/// Fills the file system at `directory` again and again while a store on it is at work.
/// `allow` makes space for the number of a round, and takes it away with `None`.
fn fill(path: &Path, seed: u64, rounds: u32, mut allow: impl FnMut(Option<u32>)) -> Seen {
    let mut seen = Seen::default();
    let open = || allod::open_with(path, &Work::options());
    allow(Some(0));
    let mut work = Work::new(open().expect("a new store"), seed, 64 * MIB).expect("reading");
    let mut ledger = Ledger::new(work.state());
    for round in 0..rounds {
        allow(None);
        let mut poisoned = work_until_full(&mut work, &mut ledger, &mut seen);
        if round % 3 == 2 {
            // Dropped while the disk is full: opening needs no space, the first change may.
            drop(work);
            let store = open().expect("opening takes no space");
            let state = digest(&store).expect("reading");
            ledger.check(state, format_args!("round {round}, reopened while full"));
            work = Work::new(store, seed + u64::from(round), 64 * MIB).expect("reading");
            assert_eq!(work.state(), state);
            poisoned = false;
            for _ in 0..3 {
                if let Err(error) = work.change() {
                    seen.refused_at_opening += 1;
                    poisoned = is_full(&error);
                    work.check();
                }
            }
        }
        allow(Some(round + 1));
        if poisoned {
            seen.poisoned += 1;
            assert!(matches!(work.store.flush(), Err(Error::Poisoned { .. })));
            drop(work);
            work = Work::new(open().expect("opening"), seed + u64::from(round), 64 * MIB)
                .expect("reading");
            ledger.check(work.state(), format_args!("round {round}, poisoned and reopened"));
            ledger = Ledger::new(work.state());
        } else {
            let state = work.state();
            work.store.flush().expect("there is space again");
            ledger.acknowledge(state);
            seen.went_on += 1;
        }
        work.change().expect("there is space again");
        let state = work.state();
        work.store.flush().expect("there is space again");
        ledger.acknowledge(state);
        work.check();
        let verification = work.store.verify().expect("verifying");
        assert!(verification.is_clean(), "round {round}: {:?}", verification.findings);
        // Something has to go, or the disk stays full.
        if round % 2 == 1 {
            work.store.retain_regions(|name| name.len() % 2 == 0).expect("removing");
            work.store.checkpoint().expect("a checkpoint");
            work.store.compact().expect("compacting");
            let store = work.store.clone();
            work = Work::new(store, seed ^ u64::from(round), 64 * MIB).expect("reading");
            ledger = Ledger::new(work.state());
        }
    }
    drop(work);
    let store = allod::open_with(path, &Work::options().create(Create::Never)).expect("opening");
    ledger.check(digest(&store).expect("reading"), "the end");
    seen
}

/// Fills a mounted file system; what can be freed at once lies in another file on it.
fn fill_mount(mount: &Mount, seed: u64) -> TestResult {
    let path = mount.path().join("store");
    let filler = mount.path().join("filler");
    let piece = vec![0xF1; 64 << 10];
    let seen = fill(&path, seed, 9, |space| match space {
        Some(_) => {
            let _ = fs::remove_file(&filler);
        }
        None => {
            let mut file = File::create(&filler).expect("a file");
            // Or less, if that is all there is: then the store is full at once.
            for _ in 0..24 {
                if file.write_all(&piece).is_err() {
                    break;
                }
            }
        }
    });
    println!("{seen:?}");
    assert!(seen.changes_refused + seen.flushes_refused > 0, "the disk never was full: {seen:?}");
    Ok(())
}

#[test]
fn a_full_file_system_in_memory_loses_nothing() -> TestResult {
    match Mount::memory(6 * MIB) {
        Ok(mount) => fill_mount(&mount, 11),
        Err(why) => {
            println!("not mounted, the limit on file sizes must do: {why}");
            Ok(())
        }
    }
}

#[test]
fn a_full_file_system_on_a_device_loses_nothing() -> TestResult {
    match Mount::ext4(8 * MIB) {
        Ok(mount) => fill_mount(&mount, 12),
        Err(why) => {
            println!("not mounted, the limit on file sizes must do: {why}");
            Ok(())
        }
    }
}

/// Making a store on a disk too small for it, with ever more space.
#[test]
fn a_store_that_does_not_fit_is_not_made() -> TestResult {
    let mount = match Mount::memory(4 * MIB) {
        Ok(mount) => mount,
        Err(why) => {
            println!("not mounted, the limit on file sizes must do: {why}");
            return Ok(());
        }
    };
    let path = mount.path().join("store");
    let filler = mount.path().join("filler");
    let mut file = File::create(&filler)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    let mut refused = 0;
    let store = loop {
        match allod::open_with(&path, &Work::options()) {
            Ok(store) => break store,
            Err(error) => assert!(!is_full(&error), "{error}"),
        }
        refused += 1;
        // One page more.
        file.set_len(file.metadata()?.len() / 4096 * 4096 - 4096)?;
    };
    println!("{refused} times refused");
    assert!(refused > 0, "the disk was not full");
    drop(file);
    fs::remove_file(&filler)?;
    store.create_region("a")?.append(b"x")?;
    store.flush()?;
    drop(store);
    assert_eq!(allod::open(&path)?.region("a").ok_or("there")?.read_all()?, b"x");
    Ok(())
}

/// Sets the limit on the lengths of files that this process writes, to be lifted again.
fn limit(bytes: &str) -> Result<(), String> {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={}", std::process::id())).arg(format!("--fsize={bytes}:"));
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// In a process of its own, since a limit is one for all threads.
#[test]
fn works_below_a_limit_in_another_process() -> TestResult {
    let Some(path) = child_argument() else { return Ok(()) };
    if let Err(why) = limit("unlimited") {
        println!("no-limits {why}");
        return Ok(());
    }
    let path = Path::new(&path);
    let seen = fill(path, 13, 9, |space| {
        let set = match space {
            Some(_) => limit("unlimited"),
            None => {
                let now = fs::metadata(path).expect("it is there").len();
                limit(&(now + MIB + 1234).to_string())
            }
        };
        set.expect("it could be set before");
    });
    println!("{seen:?}");
    assert!(seen.changes_refused + seen.flushes_refused > 0, "there was no limit: {seen:?}");
    Report::End.tell();
    Ok(())
}

#[test]
fn the_limit_on_file_sizes_loses_nothing() -> TestResult {
    let directory = tempfile::tempdir()?;
    let test = "works_below_a_limit_in_another_process";
    let output = child(&[], test, directory.path().join("store")).output()?;
    let words = String::from_utf8_lossy(&output.stdout);
    let failure = String::from_utf8_lossy(&output.stderr);
    if let Some((_, why)) = words.split_once("no-limits ") {
        skip("the limit on file sizes", why);
        return Ok(());
    }
    assert!(output.status.success(), "{}\n{words}{failure}", output.status);
    let mut end = false;
    Report::follow(&*output.stdout, &mut Ledger::new(0), |report| {
        end |= report == Report::End;
        end
    });
    assert!(end, "the child did nothing: {words}");
    println!("{words}");
    Ok(())
}
