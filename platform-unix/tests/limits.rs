//! Limits of the process and of the device: file sizes, full disks, devices that fail, file systems
//! that cannot do everything, and signals in the middle of it.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use allod_core::platform::Mapping;
use allod_core::{Platform, PlatformErrorKind as Kind};
use allod_unix::{Access, UnixPlatform};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Mount, TestResult, assert_failed, assert_success, child, child_argument};

const MIB: u64 = 1 << 20;

fn read(platform: &UnixPlatform, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; len];
    platform.read(offset, &mut bytes).expect("the range lies inside the file");
    bytes
}

fn set_limit(current: u64) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(current), maximum }).expect("it may be less");
}

/// The signal that the system raises at the limit would kill this process.
#[test]
fn meets_the_limit_on_file_sizes_in_another_process() -> TestResult {
    let Some(path) = child_argument() else { return Ok(()) };
    let long = path.with_extension("long");
    fs::write(&long, vec![1; 2 * MIB as usize])?;
    let late = UnixPlatform::open(path.with_extension("late"), Access::CreateNew)?;
    set_limit(MIB);

    let platform = UnixPlatform::open(&path, Access::CreateNew)?;
    platform.write(0, &vec![1; MIB as usize])?;
    let error = assert_failed(platform.grow(MIB + 1), Kind::NoSpace, &path);
    assert_eq!(error.code, Some(libc::EFBIG));
    assert_failed(platform.write(MIB, b"x"), Kind::NoSpace, &path);
    assert_failed(platform.write(MIB - 1, b"xy"), Kind::NoSpace, &path);
    assert_failed(platform.write_sync(MIB - 1, b"xy"), Kind::NoSpace, &path);
    assert_eq!(platform.len()?, MIB);
    assert_eq!(read(&platform, MIB - 1, 1), [1], "nothing of it is in place");
    platform.write_sync(MIB - 1, b"x")?;
    platform.grow(MIB)?;

    // The limit is one on every write, not only on those that make a file longer.
    let long_platform = UnixPlatform::open(&long, Access::OpenExisting)?;
    assert_failed(long_platform.write(MIB + 5, b"x"), Kind::NoSpace, &long);
    long_platform.write(5, b"x")?;
    long_platform.grow(2 * MIB)?;
    long_platform.cut(MIB + 1)?;

    // A file that was opened before the limit came finds out when it grows.
    assert_failed(late.write(MIB, b"x"), Kind::NoSpace, late.path());
    assert_failed(late.grow(2 * MIB), Kind::NoSpace, late.path());

    // A limit that goes away is noticed.
    set_limit(4 * MIB);
    platform.write(2 * MIB, b"x")?;
    long_platform.write(MIB, b"x")?;
    late.grow(2 * MIB)?;
    println!("came to the end");
    Ok(())
}

#[test]
fn the_limit_on_file_sizes_is_an_error_and_no_signal() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let test = "meets_the_limit_on_file_sizes_in_another_process";
    let output = child(test, &path).output()?;
    assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("came to the end"));
    Ok(())
}

/// Fills the file system; the error is clean, earlier bytes stay, and space that comes back is used.
fn fill(directory: &Path) -> TestResult {
    let path = directory.join("store");
    let platform = UnixPlatform::open(&path, Access::CreateNew)?;
    platform.grow(256 * MIB)?;
    let view = platform.map(256 * MIB)?.expect("files can be mapped");
    let piece = vec![0xAB; 64 * 1024];
    let mut end = 0;
    let error = loop {
        assert!(end < 256 * MIB, "the file system has no end");
        match platform.write(end, &piece) {
            Ok(()) => end += piece.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, Kind::NoSpace, "{error}");
    assert_eq!(error.code, Some(libc::ENOSPC));
    assert_eq!(error.range, Some((end, piece.len() as u64)));
    assert!(end > 0);
    let durable = platform.write_sync(end + MIB, &piece);
    assert_failed(durable, Kind::NoSpace, &path);
    // A platform that has to allocate in order to sync would fail here.
    platform.sync()?;
    assert_eq!(read(&platform, end - piece.len() as u64, piece.len()), piece);
    // SAFETY: below the length of the file, inside the view.
    assert_eq!(unsafe { view.as_ptr().read_volatile() }, 0xAB);

    assert!(platform.punch(0, 256 * 1024)?);
    platform.write_sync(end + MIB, &piece)?;
    platform.cut(256 * 1024)?;
    platform.write_sync(0, &piece)?;
    platform.sync()?;
    assert_eq!(read(&platform, 0, piece.len()), piece);
    Ok(())
}

#[test]
fn a_full_file_system_in_memory_is_an_error() -> TestResult {
    let Some(mount) = Mount::memory("tmpfs", "size=2m") else { return Ok(()) };
    fill(mount.path())
}

#[test]
fn a_full_disk_is_an_error() -> TestResult {
    let Some(below) = Mount::memory("tmpfs", "size=32m") else { return Ok(()) };
    let Some(mount) = Mount::ext4(below, 16 * MIB) else { return Ok(()) };
    fill(mount.path())?;
    let path = mount.path().join("large");
    let platform = UnixPlatform::open(&path, Access::CreateNew)?;
    let error = assert_failed(platform.grow(1 << 50), Kind::NoSpace, &path);
    assert_eq!(error.code, Some(libc::EFBIG));
    assert_eq!(platform.len()?, 0);
    Ok(())
}

/// The device is a file in a file system that is smaller than the device: it takes bytes into the
/// cache, and fails to write them back.
#[test]
fn a_device_that_fails_makes_syncs_fail() -> TestResult {
    for durable_write in [false, true] {
        let Some(below) = Mount::memory("tmpfs", "size=8m") else { return Ok(()) };
        let Some(mount) = Mount::ext4(below, 64 * MIB) else { return Ok(()) };
        let path = mount.path().join("store");
        let platform = UnixPlatform::open(&path, Access::CreateNew)?;
        platform.write_sync(0, &[1; 4096])?;
        let large = vec![2; 32 * MIB as usize];
        let error = if durable_write {
            platform.write_sync(4096, &large).expect_err("the device is too small")
        } else {
            platform.write(4096, &large)?;
            platform.sync().expect_err("the device is too small")
        };
        assert!(matches!(error.kind, Kind::Io | Kind::NoSpace), "{error}");
        assert!(error.code.is_some() && error.to_string().contains("store"), "{error}");
        assert_eq!(error.range.is_some(), durable_write);
    }
    Ok(())
}

#[test]
fn holes_are_made_where_the_file_system_can() -> TestResult {
    let Some(memory) = Mount::memory("tmpfs", "size=16m") else { return Ok(()) };
    let Some(below) = Mount::memory("tmpfs", "size=32m") else { return Ok(()) };
    let Some(disk) = Mount::ext4(below, 16 * MIB) else { return Ok(()) };
    for place in [memory.path(), disk.path()] {
        let platform = UnixPlatform::open(place.join("store"), Access::CreateNew)?;
        assert!(platform.capabilities().punch);
        platform.write_sync(0, &vec![1; 2 * MIB as usize])?;
        let full = platform.allocated()?.expect("Unix can tell");
        assert!(platform.punch(MIB, MIB)?);
        platform.sync()?;
        let rest = platform.allocated()?.expect("Unix can tell");
        assert!(rest + MIB <= full, "{rest} of {full}");
        assert_eq!(platform.len()?, 2 * MIB);
    }
    Ok(())
}

#[test]
fn holes_are_declined_where_the_file_system_cannot() -> TestResult {
    let Some(mount) = Mount::memory("ramfs", "mode=0755") else { return Ok(()) };
    let path = mount.path().join("store");
    for access in [Access::CreateNew, Access::OpenExisting] {
        let platform = UnixPlatform::open(&path, access)?;
        assert!(!platform.capabilities().punch);
        platform.write_sync(0, &[1; 8192])?;
        assert!(!platform.punch(0, 4096)?);
        assert!(!platform.punch(0, 4096)?);
        assert_eq!(platform.len()?, 8192);
    }
    Ok(())
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Signals every 200 microseconds, and calls that they interrupt are not restarted by the system.
#[test]
fn works_under_signals_in_another_process() -> TestResult {
    let Some(path) = child_argument() else { return Ok(()) };
    // SAFETY: the handler touches one atomic only; both structures are whole and outlive the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = 0;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = libc::itimerval { it_interval: often, it_value: often };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()), 0);
    }
    let piece: Vec<u8> = (0..MIB as u32).map(|i| (i % 241) as u8).collect();
    let mut round = 0_u64;
    while round < 50 || SIGNALS.load(Ordering::Relaxed) < 500 {
        let platform = UnixPlatform::open(&path, Access::OpenOrCreate)?;
        let offset = round % 7 * 1000;
        platform.write(offset, &piece)?;
        platform.write_sync(offset + MIB, &piece)?;
        assert_eq!(read(&platform, offset, piece.len()), piece);
        assert_eq!(read(&platform, offset + MIB, piece.len()), piece);
        platform.grow(8 * MIB)?;
        platform.punch(4096, 64 * 1024)?;
        platform.sync()?;
        platform.cut(3 * MIB)?;
        platform.entropy()?;
        round += 1;
    }
    println!("came to the end");
    Ok(())
}

#[test]
fn signals_disturb_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let output = child("works_under_signals_in_another_process", &path).output()?;
    assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("came to the end"));
    Ok(())
}
