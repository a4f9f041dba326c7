//! Bytes that are written, read, mapped, cut and punched in a file that nothing disturbs.

#![cfg(unix)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::Barrier;

use allod_core::platform::Mapping;
use allod_core::{Platform, PlatformError, PlatformErrorKind as Kind};
use allod_unix::{Access, UnixMapping, UnixPlatform};
use support::{TestResult, assert_failed};
use tempfile::TempDir;

fn new_store() -> (TempDir, UnixPlatform) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let platform = UnixPlatform::open(dir.path().join("store"), Access::CreateNew);
    (dir, platform.expect("it can be created"))
}

fn read(platform: &UnixPlatform, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; len];
    platform.read(offset, &mut bytes).expect("the range lies inside the file");
    bytes
}

/// Copies bytes out of a view, past the compiler, which may not assume that they stay.
fn peek(mapping: &UnixMapping, offset: usize, len: usize) -> Vec<u8> {
    assert!(offset + len <= mapping.len());
    // SAFETY: inside the view, and all callers stay below the length of the file.
    (offset..offset + len).map(|at| unsafe { mapping.as_ptr().add(at).read_volatile() }).collect()
}

#[test]
fn what_is_written_is_read() -> TestResult {
    let (_dir, platform) = new_store();
    platform.write(3, b"abc")?;
    assert_eq!(platform.len()?, 6);
    assert_eq!(read(&platform, 0, 6), b"\0\0\0abc");
    platform.write_sync(4, b"XYZ")?;
    assert_eq!(platform.len()?, 7);
    platform.write(0, b"_")?;
    platform.sync()?;
    assert_eq!(read(&platform, 0, 7), b"_\0\0aXYZ");
    assert_eq!(fs::read(platform.path())?, b"_\0\0aXYZ");

    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    platform.write_sync(1_000_001, &large)?;
    assert_eq!(read(&platform, 1_000_001, large.len()), large);
    assert_eq!(read(&platform, 6, 4), b"Z\0\0\0");
    Ok(())
}

#[test]
fn writing_nothing_changes_nothing() -> TestResult {
    let (_dir, platform) = new_store();
    platform.write(1000, b"")?;
    platform.write_sync(u64::MAX, b"")?;
    assert_eq!(platform.len()?, 0);
    platform.read(0, &mut [])?;
    Ok(())
}

#[test]
fn reading_past_the_end_says_where_it_is() -> TestResult {
    let (_dir, platform) = new_store();
    platform.write(0, b"0123456789")?;
    let ranges = [(0, 11), (9, 2), (10, 1), (11, 1), (1 << 40, 7), (i64::MAX as u64, 1)];
    for (offset, len) in ranges.into_iter().chain([(u64::MAX, 1), (u64::MAX - 3, 9)]) {
        let result = platform.read(offset, &mut vec![0; len]);
        let error = assert_failed(result, Kind::UnexpectedEnd, platform.path());
        assert_eq!(error.range, Some((offset, len as u64)));
        assert!(error.to_string().contains("ends at 10"), "{error}");
    }
    assert_eq!(read(&platform, 9, 1), b"9");
    Ok(())
}

#[test]
fn offsets_that_no_file_has_are_errors() {
    let (_dir, platform) = new_store();
    let largest = i64::MAX as u64;
    for offset in [largest, largest + 1, u64::MAX - 1, u64::MAX] {
        let error = assert_failed(platform.write(offset, b"ab"), Kind::NoSpace, platform.path());
        assert_eq!(error.range, Some((offset, 2)));
        assert_failed(platform.write_sync(offset, b"ab"), Kind::NoSpace, platform.path());
        assert_failed(platform.punch(offset, 4096), Kind::UnexpectedEnd, platform.path());
    }
    assert_failed(platform.grow(largest + 1), Kind::NoSpace, platform.path());
    assert_failed(platform.grow(u64::MAX), Kind::NoSpace, platform.path());
    platform.cut(u64::MAX).expect("it is shorter already");
    assert_eq!(platform.len(), Ok(0));
}

#[test]
fn growing_only_lengthens_and_cutting_only_shortens() -> TestResult {
    let (_dir, platform) = new_store();
    platform.grow(100)?;
    assert_eq!(platform.len()?, 100);
    platform.grow(50)?;
    assert_eq!(platform.len()?, 100);
    platform.cut(200)?;
    assert_eq!(platform.len()?, 100);
    platform.write(0, &[7; 100])?;
    platform.cut(30)?;
    assert_eq!(platform.len()?, 30);
    // What was cut off does not come back.
    platform.grow(60)?;
    assert_eq!(read(&platform, 0, 60), [[7; 30], [0; 30]].concat());
    // A write behind a cut must find out that the file is shorter than it was.
    platform.cut(0)?;
    platform.write(10, b"x")?;
    assert_eq!(platform.len()?, 11);
    assert_eq!(read(&platform, 0, 11), b"\0\0\0\0\0\0\0\0\0\0x");
    Ok(())
}

/// Growth looks at the length and then sets it. A write that passes the end in between must not be
/// cut off by that.
#[test]
fn growth_never_shortens_what_others_write() {
    const STEP: u64 = 64;
    const STEPS: u64 = 4000;
    let (_dir, platform) = new_store();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let platform = &platform;
            scope.spawn(move || {
                for step in 0..STEPS {
                    let end = (step + 1) * STEP;
                    match thread {
                        0 => platform.grow(end).expect("it can grow"),
                        1 => platform.grow(end / 2).expect("it can grow"),
                        _ => {
                            // Everybody else may be ahead, nobody may take this back.
                            platform.write(end - 2, &[9]).expect("it can be written");
                            let mut byte = [0];
                            platform.read(end - 2, &mut byte).expect("it was written");
                            assert_eq!(byte, [9]);
                        }
                    }
                }
            });
        }
    });
    let len = platform.len().expect("it has a length");
    assert_eq!(len, STEPS * STEP);
    let bytes = read(&platform, 0, len as usize);
    assert!(bytes.chunks(STEP as usize).all(|step| step[STEP as usize - 2] == 9));
}

/// Two changes that meet: the file is then as long as the larger of them demands. Nothing is judged
/// before both threads are through, or a failure of one would leave the other waiting.
fn meet(
    platform: &UnixPlatform,
    first: impl Fn(u64) -> Result<(), PlatformError> + Sync,
    second: impl Fn() -> Result<(), PlatformError> + Sync,
) -> TestResult {
    const ROUNDS: u64 = 5000;
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    let mut lengths = Vec::new();
    let (firsts, seconds) = std::thread::scope(|scope| {
        let firsts = scope.spawn(|| {
            let round = |round| {
                start.wait();
                let done = first(round);
                end.wait();
                done
            };
            (0..ROUNDS).map(round).collect::<Vec<_>>()
        });
        let round = |_| {
            let cut = platform.cut(0);
            start.wait();
            let done = second();
            end.wait();
            lengths.push(platform.len());
            cut.and(done)
        };
        let seconds: Vec<_> = (0..ROUNDS).map(round).collect();
        (firsts.join().expect("no panic"), seconds)
    });
    firsts.into_iter().chain(seconds).collect::<Result<(), _>>()?;
    assert_eq!(lengths.into_iter().find(|len| *len != Ok(200)), None);
    Ok(())
}

#[test]
fn two_growths_that_meet_give_the_larger() -> TestResult {
    let (_dir, platform) = new_store();
    meet(&platform, |round| platform.grow(100 + round % 90), || platform.grow(200))
}

#[test]
fn a_growth_that_meets_a_write_behind_a_cut_leaves_its_bytes() -> TestResult {
    let (_dir, platform) = new_store();
    platform.grow(1000)?;
    let write = || {
        platform.write(199, &[9])?;
        // Fails if the growth has taken it back.
        platform.read(199, &mut [0])
    };
    meet(&platform, |round| platform.grow(100 + round % 90), write)
}

#[test]
fn a_view_reaches_beyond_the_end_and_shows_what_comes() -> TestResult {
    let (_dir, platform) = new_store();
    platform.write(0, b"first")?;
    let view = platform.map(1_000_000)?.expect("files can be mapped");
    assert!(view.len() >= 1_000_000);
    assert!(!view.is_empty());
    assert!(format!("{view:?}").contains("store"));
    assert_eq!(peek(&view, 0, 5), b"first");

    let start = view.as_ptr();
    platform.grow(900_000)?;
    assert_eq!(peek(&view, 899_990, 10), [0; 10]);
    platform.write(700_000, b"second")?;
    platform.write_sync(5, b"third")?;
    assert_eq!(peek(&view, 700_000, 6), b"second");
    assert_eq!(peek(&view, 0, 10), b"firstthird");

    let larger = platform.map(4_000_000)?.expect("files can be mapped");
    platform.write(3_999_990, b"fourth")?;
    assert_eq!(peek(&larger, 3_999_990, 6), b"fourth");
    assert_eq!(peek(&view, 0, 10), b"firstthird");
    assert_eq!(view.as_ptr(), start);
    Ok(())
}

#[test]
fn a_view_of_nothing_or_of_too_much_is_no_error() -> TestResult {
    let (_dir, platform) = new_store();
    platform.map(0)?;
    for len in [u64::MAX, u64::MAX - 70_000, i64::MAX as u64, 1 << 62] {
        assert!(platform.map(len)?.is_none(), "{len}");
    }
    Ok(())
}

#[test]
fn address_space_that_runs_out_is_no_error() -> TestResult {
    let (_dir, platform) = new_store();
    platform.write(0, b"content")?;
    let mut views = Vec::new();
    // As large as they can be: some address space is left in the end, but not so much.
    while let Some(view) = platform.map(1 << 45)? {
        views.push(view);
        assert!(views.len() < 1 << 16, "there is no end to the address space");
    }
    assert!(views.iter().all(|view| peek(view, 0, 7) == b"content"));
    assert!(platform.map(4096)?.is_some());
    Ok(())
}

#[test]
fn a_hole_gives_its_space_back() -> TestResult {
    let (_dir, platform) = new_store();
    const MIB: u64 = 1 << 20;
    platform.write(0, &vec![1; 4 * MIB as usize])?;
    platform.sync()?;
    let full = platform.allocated()?.expect("Unix can tell");
    assert!((4 * MIB..5 * MIB).contains(&full), "{full}");
    if !platform.capabilities().punch {
        println!("skipped: this file system makes no holes");
        assert!(!platform.punch(MIB, 2 * MIB)?);
        return Ok(());
    }
    assert!(!platform.punch(MIB, 0)?);
    assert!(platform.punch(MIB, 2 * MIB)?);
    platform.sync()?;
    let rest = platform.allocated()?.expect("Unix can tell");
    assert!(rest <= full - 2 * MIB, "{rest} of {full}");
    assert_eq!(platform.len()?, 4 * MIB);
    assert_eq!(read(&platform, MIB - 1, 1), [1]);
    assert_eq!(read(&platform, 3 * MIB, 1), [1]);
    // A hole at the end, and on Linux past it, leaves the length alone.
    let past = if cfg!(target_os = "linux") { MIB } else { 0 };
    assert!(platform.punch(3 * MIB, MIB + past)?);
    assert_eq!(platform.len()?, 4 * MIB);
    Ok(())
}

#[test]
fn opening_and_asking_change_no_byte() -> TestResult {
    let (_dir, platform) = new_store();
    let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i % 13) as u8 + 1).collect();
    platform.write(0, &bytes)?;
    let path = platform.path().to_path_buf();
    drop(platform);
    for access in [Access::OpenExisting, Access::OpenOrCreate, Access::ReadOnly] {
        drop(UnixPlatform::open(&path, access)?);
        assert_eq!(fs::read(&path)?, bytes);
    }
    Ok(())
}

#[test]
fn room_that_is_not_written_takes_no_space() -> TestResult {
    let (_dir, platform) = new_store();
    assert!(platform.capabilities().sparse);
    platform.grow(1 << 30)?;
    let taken = platform.allocated()?.expect("Unix can tell");
    assert!(taken < 1 << 20, "{taken}");
    Ok(())
}

#[test]
fn the_page_size_is_one_that_stores_have() {
    let (_dir, platform) = new_store();
    let page = platform.capabilities().page_size;
    assert!(page.is_power_of_two() && (4096..=65536).contains(&page));
}

#[test]
fn stores_get_different_numbers() -> TestResult {
    let (_dir, platform) = new_store();
    let numbers = (0..100).map(|_| platform.entropy()).collect::<Result<HashSet<_>, _>>()?;
    assert_eq!(numbers.len(), 100);
    Ok(())
}

#[test]
fn living_threads_have_different_numbers() {
    let (_dir, platform) = new_store();
    let all = Barrier::new(16);
    let numbers: HashSet<u64> = std::thread::scope(|scope| {
        let ask = || {
            let number = platform.thread();
            platform.yield_now();
            all.wait();
            assert_eq!(platform.thread(), number);
            number
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(numbers.len(), 16);
    assert!(!numbers.contains(&0));
}
