//! Calls of the system that fail, made to fail by `strace` in a process that writes: every call
//! that a store makes, the first, the second … or all from some time on (promises 1, 5 and 6).
//!
//! The process must go on as far as it can, without a panic, a signal or a hang; what it leaves must
//! be what it acknowledged last, or what a flush was under way to.
//!
//! A call that is made to fail is not made at all. Therefore writes that answer a part of what they
//! were asked for are not tested here: `strace` can only pretend them, and what it pretends to have
//! written would be lost. Full file systems make real ones.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use allod::{Error, Result};
use support::{Ledger, Report, TestResult, Work, child, child_argument, digest, is_root, skip};

const LIMIT: u64 = 400_000;
/// How often the process opens its store anew after it was poisoned.
const LIVES: u64 = 4;
const STEPS: u32 = 60;

/// Works in spite of failures, and opens the store anew when it is poisoned.
#[test]
fn works_in_spite_of_failures_in_another_process() -> TestResult {
    let Some(argument) = child_argument() else { return Ok(()) };
    let argument = argument.into_string().map_err(|_| "not UTF-8")?;
    let (call, path) = argument.split_once(':').ok_or("call:path")?;
    let mut ledger = Ledger::new(0);
    let mut failures = 0;
    for life in 0..LIVES {
        match live(Path::new(path), life, call, &mut ledger, &mut failures) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                println!("life {life}: {error}");
                failures += 1;
                let clean = matches!(error, Error::Platform(_));
                assert!(clean, "opening failed in an unexpected way: {error}");
            }
        }
    }
    println!("\nallod-failures {failures}");
    Report::End.tell();
    Ok(())
}

/// From opening to the end, or to poison (which is answered with `false`).
fn live(
    path: &Path,
    life: u64,
    call: &str,
    ledger: &mut Ledger,
    failures: &mut u32,
) -> Result<bool> {
    let mut work = Work::new(allod::open_with(path, &Work::options())?, 21 + life, LIMIT)?;
    ledger.check(work.state(), format_args!("life {life}"));
    Report::Opened(work.state()).tell();
    for step in 0..STEPS {
        // Compaction is what makes holes.
        let done = match step {
            _ if step % 20 == 19 => work.compact_and_tell(ledger),
            _ if step % 3 == 2 => work.flush_and_tell(ledger),
            _ => work.change(),
        };
        let Err(error) = done else { continue };
        *failures += 1;
        match &error {
            Error::Platform(_) => assert!(
                call != "fdatasync" || work.store.poisoned().is_some(),
                "a sync failed, and the store goes on: {error}"
            ),
            Error::Poisoned { .. } => {}
            other => panic!("not the failure of a call: {other}"),
        }
        // Readers go on in any case, and see what they saw before.
        work.check();
        let Some(cause) = work.store.poisoned() else { continue };
        println!("life {life}, step {step}: {cause}");
        let again = [work.change(), work.store.flush().map(drop), work.store.compact().map(drop)];
        for refused in again {
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "after poison: {refused:?}");
        }
        work.check();
        return Ok(false);
    }
    Ok(true)
}

/// Whether `strace` works here, or why not.
fn strace() -> std::result::Result<(), String> {
    let trial = || {
        let mut command = Command::new("strace");
        let output = command.args(["-f", "-o", "/dev/null", "-e", "trace=fsync", "true"]).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    match trial() {
        Err(_) if is_root() => {
            let mut install = Command::new("apt-get");
            // If it fails, the second trial tells.
            let _ = install.args(["install", "-y", "-q", "strace"]).output();
            trial()
        }
        answer => answer,
    }
}

/// What a run in another process came to.
struct Run {
    ledger: Ledger,
    /// Calls that were made to fail.
    injected: usize,
    /// Failures that the process saw.
    failures: u32,
}

/// Runs the process while `call` fails as `how` says, and follows what it tells.
fn run(directory: &Path, call: &str, how: &str) -> std::result::Result<Run, String> {
    let log = directory.join("log");
    let inject = format!("inject={call}:{how}");
    let trace = format!("trace={call}");
    let wrapper = ["timeout", "60", "strace", "-f", "-o"].map(OsStr::new);
    let options = ["-e", &trace, "-e", &inject].map(OsStr::new);
    let wrapper = [&wrapper[..], &[log.as_os_str()], &options[..]].concat();
    let mut argument = OsString::from(format!("{call}:"));
    argument.push(directory.join("store"));
    let output = child(&wrapper, "works_in_spite_of_failures_in_another_process", &argument)
        .output()
        .map_err(|error| error.to_string())?;
    let words = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let failure = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} {how}: {}\n{words}\n{failure}", call, output.status));
    }
    let mut run = Run { ledger: Ledger::new(0), injected: 0, failures: 0 };
    let mut end = false;
    Report::follow(&*output.stdout, &mut run.ledger, |report| {
        end |= report == Report::End;
        false
    });
    let failures = words.lines().find_map(|line| line.strip_prefix("allod-failures "));
    run.failures = failures.and_then(|number| number.parse().ok()).ok_or("no count of failures")?;
    let log = fs::read(&log).map_err(|error| error.to_string())?;
    run.injected = String::from_utf8_lossy(&log).matches("(INJECTED)").count();
    if end { Ok(run) } else { Err(format!("{call} {how}: it did not come to its end: {words}")) }
}

/// The store is what it must be, and can be worked with.
fn look(path: &Path, run: &Run, what: &str) -> TestResult {
    let store = allod::open_with(path, &Work::options())?;
    run.ledger.check(digest(&store)?, what);
    let verification = store.verify()?;
    assert!(verification.is_clean(), "{what}: {:?}", verification.findings);
    let mut work = Work::new(store, 99, LIMIT)?;
    let mut ledger = Ledger::new(work.state());
    for _ in 0..10 {
        work.change()?;
    }
    work.flush(&mut ledger)?;
    work.check();
    let expected = work.state();
    drop(work);
    assert_eq!(digest(&allod::open_read_only(path)?)?, expected, "{what}: and then");
    Ok(())
}

/// Runs with every way to fail, each in a new directory. Answers how many calls failed, and how many
/// failures came through.
fn fail_everything(call: &str, ways: &[&str]) -> TestResult {
    if let Err(why) = strace() {
        skip(&format!("failures of {call}"), &why);
        return Ok(());
    }
    let (mut injected, mut failures) = (0, 0);
    for way in ways {
        for when in ["1", "2", "3", "5", "8", "13", "21", "4+", "7+", "2+5"] {
            let directory = tempfile::tempdir()?;
            let how = format!("{way}:when={when}");
            let run = run(directory.path(), call, &how)?;
            look(&directory.path().join("store"), &run, &format!("{call} {how}"))?;
            assert!(run.injected > 0 || when != "1", "{call} is never called");
            injected += run.injected;
            failures += run.failures;
        }
    }
    println!("{call}: {injected} calls failed, {failures} failures were seen");
    Ok(())
}

#[test]
fn failing_syncs_lose_nothing_acknowledged() -> TestResult {
    fail_everything("fdatasync", &["error=EIO", "error=ENOSPC"])
}

#[test]
fn failing_durable_writes_lose_nothing_acknowledged() -> TestResult {
    fail_everything("pwritev2", &["error=EIO", "error=ENOSPC"])
}

#[test]
fn failing_writes_lose_nothing_acknowledged() -> TestResult {
    // The last one is a write that takes nothing and says so.
    fail_everything("pwrite64", &["error=EIO", "error=ENOSPC", "retval=0"])
}

#[test]
fn failing_changes_of_the_length_lose_nothing_acknowledged() -> TestResult {
    fail_everything("ftruncate", &["error=ENOSPC", "error=EIO"])
}

#[test]
fn failing_holes_lose_nothing_acknowledged() -> TestResult {
    fail_everything("fallocate", &["error=EIO", "error=EOPNOTSUPP"])
}

/// A call that a signal interrupted is made again, and nobody hears of it.
#[test]
fn interrupted_calls_are_made_again() -> TestResult {
    if let Err(why) = strace() {
        skip("interrupted calls", &why);
        return Ok(());
    }
    for call in ["fdatasync", "pwritev2", "pwrite64", "ftruncate", "fallocate"] {
        let directory = tempfile::tempdir()?;
        let run = run(directory.path(), call, "error=EINTR:when=1+3")?;
        assert!(run.injected > 0, "{call} is never called");
        assert_eq!(run.failures, 0, "{call}");
        look(&directory.path().join("store"), &run, call)?;
    }
    Ok(())
}
