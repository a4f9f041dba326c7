//! Who may have the file open beside whom, in one process and between several.

#![cfg(unix)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use allod_core::platform::Mapping;
use allod_core::{Platform, PlatformErrorKind as Kind};
use allod_unix::{Access, UnixPlatform};
use support::{TestResult, assert_failed, child, child_argument};

#[track_caller]
fn assert_locked(path: &Path, access: Access) {
    let error = assert_failed(UnixPlatform::open(path, access), Kind::Locked, path);
    assert_eq!(error.code, Some(libc::EWOULDBLOCK));
}

#[test]
fn a_writer_excludes_everybody_even_in_its_own_process() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let writer = UnixPlatform::open(&path, Access::CreateNew)?;
    for access in [Access::OpenExisting, Access::OpenOrCreate, Access::ReadOnly] {
        assert_locked(&path, access);
    }
    drop(writer);
    UnixPlatform::open(&path, Access::OpenExisting)?;
    Ok(())
}

#[test]
fn readers_share_and_exclude_writers() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    fs::write(&path, b"content")?;
    let first = UnixPlatform::open(&path, Access::ReadOnly)?;
    let second = UnixPlatform::open(&path, Access::ReadOnly)?;
    assert_locked(&path, Access::OpenExisting);
    drop(first);
    assert_locked(&path, Access::OpenOrCreate);
    drop(second);
    UnixPlatform::open(&path, Access::OpenExisting)?;
    Ok(())
}

#[test]
fn every_name_of_a_file_meets_one_lock() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let soft = dir.path().join("soft");
    let hard = dir.path().join("hard");
    let _writer = UnixPlatform::open(&path, Access::CreateNew)?;
    symlink("store", &soft)?;
    fs::hard_link(&path, &hard)?;
    assert_locked(&soft, Access::OpenExisting);
    assert_locked(&hard, Access::OpenOrCreate);
    assert_locked(&hard, Access::ReadOnly);
    Ok(())
}

#[test]
fn a_mapping_keeps_the_lock() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let writer = UnixPlatform::open(&path, Access::CreateNew)?;
    writer.write(0, b"content")?;
    let mapping = writer.map(7)?.expect("files can be mapped");
    drop(writer);
    assert_locked(&path, Access::OpenExisting);
    // SAFETY: seven bytes were written at the start, and nobody else can write while this lives.
    assert_eq!(unsafe { std::slice::from_raw_parts(mapping.as_ptr(), 7) }, b"content");
    drop(mapping);
    UnixPlatform::open(&path, Access::OpenExisting)?;
    Ok(())
}

/// Starts a process that opens the file for writing, and waits until it has.
fn start_holder(path: &Path) -> Result<Child, Box<dyn std::error::Error>> {
    let mut holder = child("holds_the_lock_in_another_process", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut seen = Vec::new();
    let output = holder.stdout.as_mut().expect("it is piped");
    while !seen.ends_with(b"locked\n") {
        let mut byte = [0];
        output.read_exact(&mut byte)?;
        seen.extend(byte);
    }
    Ok(holder)
}

#[test]
fn holds_the_lock_in_another_process() -> TestResult {
    let Some(path) = child_argument() else { return Ok(()) };
    let _writer = UnixPlatform::open(path, Access::OpenOrCreate)?;
    println!("locked");
    std::io::stdout().flush()?;
    // Until the parent closes its end.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[test]
fn another_process_is_excluded_until_it_ends() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let mut holder = start_holder(&path)?;
    assert_locked(&path, Access::OpenExisting);
    assert_locked(&path, Access::ReadOnly);
    drop(holder.stdin.take());
    assert!(holder.wait()?.success());
    UnixPlatform::open(&path, Access::OpenExisting)?;
    Ok(())
}

#[test]
fn a_killed_process_leaves_no_lock() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let mut holder = start_holder(&path)?;
    assert_locked(&path, Access::OpenExisting);
    holder.kill()?;
    holder.wait()?;
    UnixPlatform::open(&path, Access::OpenExisting)?;
    Ok(())
}

#[test]
fn a_program_started_by_the_process_does_not_inherit_the_lock() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let other = dir.path().join("other");
    let writer = UnixPlatform::open(&path, Access::CreateNew)?;
    let mut holder = start_holder(&other)?;
    drop(writer);
    UnixPlatform::open(&path, Access::OpenExisting)?;
    drop(holder.stdin.take());
    assert!(holder.wait()?.success());
    Ok(())
}

/// Forks, runs `work` in the child, and ends it. The child of a process with threads may do little.
fn fork(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs `work`, which takes no lock that another thread may hold, and then ends
    // without running anything else of the parent's.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            work();
            libc::_exit(0);
        }
        assert!(child > 0, "it cannot fork");
        child
    }
}

/// Waits until the child is gone.
fn wait_for(child: libc::pid_t) {
    // SAFETY: waits for a child of this process, and takes no notice of how it ended.
    let gone = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert_eq!(gone, child);
}

#[test]
fn a_forked_child_does_not_keep_the_lock() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let writer = UnixPlatform::open(&path, Access::CreateNew)?;
    // SAFETY: the call touches nothing but the child itself.
    let child = fork(|| unsafe {
        libc::pause();
    });
    drop(writer);
    let result = UnixPlatform::open(&path, Access::OpenExisting);
    // SAFETY: a signal to a child that is not waited for yet, so that the number is still its own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait_for(child);
    result?;
    Ok(())
}

#[test]
fn a_forked_child_does_not_take_the_lock_away() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let writer = std::cell::Cell::new(Some(UnixPlatform::open(&path, Access::CreateNew)?));
    // The copy of the child is dropped, not that of the parent.
    wait_for(fork(|| drop(writer.take())));
    assert_locked(&path, Access::OpenExisting);
    let writer = writer.take().expect("the child has its own memory");
    writer.write(0, b"x")?;
    Ok(())
}

/// Threads that open, create and remove one file: whoever gets it has the file that the path names,
/// alone, for as long as it keeps it.
#[test]
fn a_file_that_is_removed_while_being_opened_is_never_handed_out() -> TestResult {
    const ROUNDS: usize = 400;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let handed_out = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while handed_out.load(Ordering::Relaxed) < ROUNDS {
                    let platform = match UnixPlatform::open(&path, Access::OpenOrCreate) {
                        Ok(platform) => platform,
                        Err(error) if error.kind == Kind::Locked => continue,
                        // Replaced again and again: an answer, if a rare one.
                        Err(error) if error.kind == Kind::Io => continue,
                        Err(error) => panic!("{error}"),
                    };
                    let number = handed_out.fetch_add(1, Ordering::Relaxed) as u64;
                    platform.write(0, &number.to_le_bytes()).expect("it can be written");
                    let seen = fs::read(&path).expect("the path names the file");
                    assert_eq!(seen, number.to_le_bytes(), "another file than the one opened");
                    fs::remove_file(&path).expect("it can be removed");
                }
            });
        }
    });
    Ok(())
}
