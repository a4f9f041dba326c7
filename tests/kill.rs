//! Processes that are killed while they write (promise 1): what is found afterwards is the state
//! that was acknowledged last, or the one that a flush was under way to, whole, and nothing else.
//! Of a process that dies, the kernel keeps what it was given, so that `Durability::Process` counts.
//!
//! `ALLOD_KILLS` says how often (200 times if it is not set). All deaths happen to one store, which
//! each process takes over as the one before has left it; some die while they do so.

#![cfg(unix)]

mod support;

use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use allod::{Create, FileStore};
use support::{Ledger, Random, Report, TestResult, Work, child, child_argument, digest};

const LIMIT: u64 = 1 << 20;
/// After so long it is enough, however few it were.
const LONGEST: Duration = Duration::from_secs(40);

/// Writes until it is killed.
#[test]
fn writes_in_another_process() -> TestResult {
    let Some(argument) = child_argument() else { return Ok(()) };
    let argument = argument.into_string().map_err(|_| "not UTF-8")?;
    let (seed, path) = argument.split_once(':').ok_or("seed:path")?;
    let store = allod::open_with(path, &Work::options().create(Create::Never))?;
    let mut work = Work::new(store, seed.parse()?, LIMIT)?;
    Report::Opened(work.state()).tell();
    let mut ledger = Ledger::new(work.state());
    loop {
        for _ in 0..work.below(12) {
            work.change()?;
        }
        work.flush_and_tell(&mut ledger)?;
    }
}

/// Reads the store as a process would that only looks at it, and then as one that takes it over.
fn look(path: &Path) -> allod::Result<u64> {
    let found = digest(&allod::open_read_only(path)?)?;
    let store: FileStore = allod::open_with(path, &Work::options().create(Create::Never))?;
    let verification = store.verify()?;
    assert!(verification.is_clean(), "{:?}", verification.findings);
    assert_eq!(digest(&store)?, found, "two readings differ");
    Ok(found)
}

#[test]
fn a_killed_process_leaves_an_acknowledged_state() -> TestResult {
    let kills = match std::env::var("ALLOD_KILLS") {
        Ok(number) => number.parse()?,
        Err(_) => 200,
    };
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    drop(allod::open_with(&path, &Work::options())?);
    let mut ledger = Ledger::new(0);
    let mut random = Random(0x6b69_6c6c);
    let began = Instant::now();
    let (mut done, mut acknowledged) = (0_u64, 0_u64);
    while done < kills && began.elapsed() < LONGEST {
        let mut argument = OsString::from(format!("{}:", done + 1));
        argument.push(&path);
        let mut process = child(&[], "writes_in_another_process", &argument)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(process.stdout.take().ok_or("a pipe")?);
        // The moment: after some flushes (or the opening, or none of them), and a while.
        let flushes = random.below(25);
        let mut while_it_lives = flushes;
        if flushes > 0 {
            Report::follow(&mut output, &mut ledger, |report| {
                if matches!(report, Report::Opened(_) | Report::Acknowledged(_)) {
                    while_it_lives -= 1;
                }
                while_it_lives == 0
            });
        }
        let longest = 1 << random.below(14);
        let moment = Duration::from_micros(random.below(longest));
        let now = Instant::now();
        while now.elapsed() < moment {
            std::hint::spin_loop();
        }
        process.kill()?;
        // What it told before it died is still in the pipe.
        Report::follow(&mut output, &mut ledger, |_| false);
        let end = process.wait_with_output()?;
        let words = String::from_utf8_lossy(&end.stderr);
        assert_eq!(while_it_lives, 0, "it died by itself: {words}");
        assert_eq!(end.status.signal(), Some(9), "{words}");

        let found = look(&path)?;
        ledger.check(found, format_args!("death {done}"));
        ledger.acknowledge(found);
        done += 1;
        acknowledged += flushes;
    }
    println!("{done} deaths after {acknowledged} flushes, in {:?}", began.elapsed());
    assert!(done > 0 || kills == 0);
    Ok(())
}
