//! Paths and files that are no store to be opened: each answers the error that says so, with the
//! path in its words where it is about the file, and changes nothing.

#![cfg(unix)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use allod::{Create, Error, FileStore, Options, PlatformErrorKind as Kind, Result};
use support::{Ledger, Mount, Report, TestResult, child, child_argument, digest, is_root, skip};

const CREATES: [Create; 3] = [Create::IfMissing, Create::Never, Create::Always];

/// Every way to open a file.
fn ways() -> impl Iterator<Item = Options> {
    let writing = CREATES.map(|create| Options::new().create(create));
    let reading = CREATES.map(|create| Options::new().create(create).read_only(true));
    writing.into_iter().chain(reading)
}

/// Fails unless it is an error of this kind whose words name the path.
#[track_caller]
fn refused(result: Result<FileStore>, kind: Kind, path: &Path) -> String {
    let Err(error) = result else { panic!("{} was opened", path.display()) };
    let words = error.to_string();
    let Error::Platform(error) = error else { panic!("not about the file: {words}") };
    assert_eq!(error.kind, kind, "{words}");
    assert!(words.contains(&path.display().to_string()), "no path in: {words}");
    words
}

/// A store with some regions, of which some bytes lie in the journal only; and its digest.
fn make(path: &Path) -> Result<u64> {
    let store = allod::open_with(path, &Options::new().journal_size(64 << 10))?;
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        store.create_region(name)?.append(&[byte; 50_000])?;
    }
    store.checkpoint()?;
    store.region_or_create("a")?.write_at(7_000, b"overwritten")?;
    store.remove_region("b")?;
    store.create_region("d")?.append(b"appended")?;
    store.flush()?;
    digest(&store)
}

// ---- paths -------------------------------------------------------------------------------------

#[test]
fn what_is_no_file_is_refused() -> TestResult {
    let place = tempfile::tempdir()?;
    let pipe = place.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let socket = place.path().join("socket");
    let _listener = UnixListener::bind(&socket)?;
    let link = place.path().join("link");
    symlink(place.path(), &link)?;
    let device = Path::new("/dev/null");
    for path in [place.path(), &pipe, &socket, &link, device] {
        for options in ways() {
            refused(allod::open_with(path, &options), Kind::NotAFile, path);
        }
    }
    let words = refused(allod::open(place.path()), Kind::NotAFile, place.path());
    assert!(words.contains("directory"), "{words}");
    Ok(())
}

#[test]
fn what_is_not_there_is_not_found() -> TestResult {
    let place = tempfile::tempdir()?;
    let missing = place.path().join("store");
    refused(allod::open_read_only(&missing), Kind::NotFound, &missing);
    for create in CREATES {
        let options = Options::new().create(create).read_only(true);
        refused(allod::open_with(&missing, &options), Kind::NotFound, &missing);
    }
    let never = Options::new().create(Create::Never);
    refused(allod::open_with(&missing, &never), Kind::NotFound, &missing);

    let parent = place.path().join("no directory");
    let below = parent.join("store");
    for options in ways() {
        let words = refused(allod::open_with(&below, &options), Kind::NotFound, &below);
        assert!(words.contains("directory"), "{words}");
    }
    let file = place.path().join("file");
    fs::write(&file, b"x")?;
    let below_file = file.join("store");
    let dangling = place.path().join("dangling");
    symlink(&missing, &dangling)?;
    for options in ways() {
        refused(allod::open_with(&below_file, &options), Kind::NotFound, &below_file);
        refused(allod::open_with(&dangling, &options), Kind::NotFound, &dangling);
    }
    assert!(!missing.exists() && !parent.exists());
    Ok(())
}

#[test]
fn paths_that_no_system_takes_are_refused() -> TestResult {
    let place = tempfile::tempdir()?;
    let long = place.path().join("n".repeat(5_000));
    refused(allod::open(&long), Kind::Unsupported, &long);
    let empty = Path::new("");
    refused(allod::open(empty), Kind::NotFound, empty);
    let nul = allod::open(place.path().join("a\0b"));
    assert!(matches!(nul, Err(Error::Platform(_))), "{nul:?}");
    Ok(())
}

#[test]
fn a_file_system_that_cannot_be_written_is_read() -> TestResult {
    let place = tempfile::tempdir()?;
    let expected = make(&place.path().join("store"))?;
    fs::write(place.path().join("empty"), b"")?;
    let mount = match Mount::read_only(place.path()) {
        Ok(mount) => mount,
        Err(why) => {
            skip("a read-only file system", &why);
            return Ok(());
        }
    };
    let [store, empty, missing] = ["store", "empty", "missing"].map(|n| mount.path().join(n));
    for path in [&store, &empty] {
        for create in CREATES {
            let options = Options::new().create(create);
            refused(allod::open_with(path, &options), Kind::ReadOnly, path);
        }
    }
    refused(allod::open(&missing), Kind::ReadOnly, &missing);
    refused(allod::open_read_only(&missing), Kind::NotFound, &missing);
    let read = allod::open_read_only(&store)?;
    assert_eq!(digest(&read)?, expected);
    assert_eq!(read.create_region("new").err(), Some(Error::ReadOnly));
    assert!(read.verify()?.is_clean());
    Ok(())
}

/// As a user who may do less than others.
#[test]
fn meets_permissions_in_another_process() -> TestResult {
    let Some(path) = child_argument() else { return Ok(()) };
    let place = Path::new(&path);
    let [closed, open, new] = ["closed", "readable", "new"].map(|name| place.join(name));
    for options in ways() {
        refused(allod::open_with(&closed, &options), Kind::PermissionDenied, &closed);
    }
    refused(allod::open(&open), Kind::PermissionDenied, &open);
    refused(allod::open(&new), Kind::PermissionDenied, &new);
    Report::Opened(digest(&allod::open_read_only(&open)?)?).tell();
    Report::End.tell();
    Ok(())
}

#[test]
fn what_is_not_permitted_is_refused() -> TestResult {
    let place = tempfile::tempdir()?;
    let [closed, open] = ["closed", "readable"].map(|name| place.path().join(name));
    make(&closed)?;
    let mut ledger = Ledger::new(make(&open)?);
    fs::set_permissions(&closed, Permissions::from_mode(0o000))?;
    fs::set_permissions(&open, Permissions::from_mode(0o444))?;
    fs::set_permissions(place.path(), Permissions::from_mode(0o555))?;
    // Permissions mean nothing to root: the process becomes nobody, if nobody may run this program.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(OsStr::new);
    let wrapper = if is_root() { &nobody[..] } else { &[] };
    let test = "meets_permissions_in_another_process";
    let output = child(wrapper, test, place.path()).output();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755))?;
    let output = match output {
        Ok(output) if is_root() && matches!(output.status.code(), Some(126 | 127)) => {
            println!("not tested: {}", String::from_utf8_lossy(&output.stderr));
            return Ok(());
        }
        Err(error) if is_root() => {
            println!("not tested: {error}");
            return Ok(());
        }
        output => output?,
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut end = false;
    Report::follow(&*output.stdout, &mut ledger, |report| {
        end |= report == Report::End;
        end
    });
    assert!(end, "the child did nothing");
    Ok(())
}

// ---- locks -------------------------------------------------------------------------------------

/// Holds a store open until its input ends.
#[test]
fn holds_a_store_in_another_process() -> TestResult {
    let Some(argument) = child_argument() else { return Ok(()) };
    let argument = argument.into_string().map_err(|_| "not UTF-8")?;
    let (how, path) = argument.split_once(':').ok_or("how:path")?;
    let store = allod::open_with(path, &Options::new().read_only(how == "read"))?;
    Report::Opened(digest(&store)?).tell();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

#[test]
fn a_store_that_another_process_has_is_locked() -> TestResult {
    let place = tempfile::tempdir()?;
    let path = place.path().join("store");
    let expected = make(&path)?;
    let other_name = place.path().join("other name");
    fs::hard_link(&path, &other_name)?;
    for how in ["write", "read"] {
        let argument = format!("{how}:{}", path.display());
        let mut holder = child(&[], "holds_a_store_in_another_process", argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = std::io::BufReader::new(holder.stdout.take().ok_or("a pipe")?);
        let mut opened = false;
        Report::follow(&mut output, &mut Ledger::new(expected), |report| {
            opened |= matches!(report, Report::Opened(_));
            opened
        });
        assert!(opened, "the child could not open the store");
        for path in [&path, &other_name] {
            for create in CREATES {
                let options = Options::new().create(create);
                let words = refused(allod::open_with(path, &options), Kind::Locked, path);
                assert!(words.contains("open elsewhere"), "{words}");
            }
            match how {
                "write" => drop(refused(allod::open_read_only(path), Kind::Locked, path)),
                _ => assert_eq!(digest(&allod::open_read_only(path)?)?, expected),
            }
        }
        drop(holder.stdin.take());
        assert!(holder.wait()?.success());
        assert_eq!(digest(&allod::open(&path)?)?, expected, "the lock outlived the process");
    }
    Ok(())
}

// ---- bytes -------------------------------------------------------------------------------------

/// Opens `bytes` in every way; each must fail as `expected` says, and leave them as they are.
#[track_caller]
fn bytes_refused(bytes: &[u8], expected: impl Fn(&Error, &Options) -> bool) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("store");
    fs::write(&path, bytes).expect("a file");
    for options in ways() {
        match allod::open_with(&path, &options) {
            Ok(_) => panic!("{} bytes were opened with {options:?}", bytes.len()),
            Err(error) => assert!(expected(&error, &options), "{options:?}: {error}"),
        }
        assert!(fs::read(&path).expect("the file") == bytes, "{options:?} changed the file");
    }
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let mut zeros_and_more = vec![0; 100_000];
    zeros_and_more.extend_from_slice(b"something");
    let text = "A letter to somebody.\n".repeat(3_000);
    let files: [&[u8]; 5] =
        [b"x", b"#!/bin/sh\n", b"SQLite format 3\0", text.as_bytes(), &zeros_and_more];
    for bytes in files {
        bytes_refused(bytes, |error, _| match error {
            Error::NotAStore { len, found } => {
                let head = bytes.iter().chain(&[0; 8]).take(8);
                *len == bytes.len() as u64 && found.iter().eq(head)
            }
            _ => false,
        });
    }
}

/// The checksum of FORMAT.md.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// Changes a field of both superblocks, with a right checksum.
fn with_field(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for record in bytes[..8192].chunks_mut(512).filter(|record| record.starts_with(b"allod")) {
        record[at..at + value.len()].copy_from_slice(value);
        let checksum = crc32(&record[..508]);
        record[508..].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

#[test]
fn a_store_of_a_later_version_is_refused() -> TestResult {
    let place = tempfile::tempdir()?;
    let path = place.path().join("store");
    let expected = make(&path)?;
    let bytes = fs::read(&path)?;
    assert!(with_field(&bytes, 8, &1_u32.to_le_bytes()) == bytes, "the checksum is another one");
    bytes_refused(&with_field(&bytes, 8, &2_u32.to_le_bytes()), |error, _| {
        matches!(error, Error::Newer { version: 2, supported: 1, .. })
            && error.to_string().contains("version 2")
    });
    // Incompatible features.
    bytes_refused(&with_field(&bytes, 32, &[4]), |error, _| {
        matches!(error, Error::Newer { features: 4, .. })
    });
    // Those that only forbid writing.
    fs::write(&path, with_field(&bytes, 24, &[2]))?;
    let error = allod::open(&path).err();
    assert!(matches!(error, Some(Error::Newer { features: 2, .. })), "{error:?}");
    assert_eq!(digest(&allod::open_read_only(&path)?)?, expected);
    // Those that forbid nothing.
    fs::write(&path, with_field(&bytes, 16, &[1]))?;
    assert_eq!(digest(&allod::open(&path)?)?, expected);
    Ok(())
}

#[test]
fn an_empty_file_is_no_store_yet() -> TestResult {
    let place = tempfile::tempdir()?;
    let path = place.path().join("store");
    fs::write(&path, b"")?;
    let never = Options::new().create(Create::Never);
    assert_eq!(allod::open_with(&path, &never).err(), Some(Error::NoStore));
    assert_eq!(allod::open_with(&path, &never.read_only(true)).err(), Some(Error::NoStore));
    assert_eq!(allod::open_read_only(&path).err(), Some(Error::ReadOnly));
    assert_eq!(fs::metadata(&path)?.len(), 0);
    assert!(allod::open(&path)?.is_empty());
    Ok(())
}

/// Cut anywhere: the state that was flushed, or an error, and no change of the file.
#[test]
fn a_store_that_was_cut_short_is_damaged_or_right() -> TestResult {
    let place = tempfile::tempdir()?;
    let path = place.path().join("store");
    let expected = make(&path)?;
    let whole = fs::read(&path)?;
    let (mut right, mut wrong) = (0, 0);
    let lengths = (0..whole.len()).step_by(4096).flat_map(|len| [len + 1, len + 511, len + 4096]);
    for len in lengths.filter(|len| *len < whole.len()) {
        let bytes = &whole[..len];
        fs::write(&path, bytes)?;
        match allod::open_read_only(&path).and_then(|store| digest(&store)) {
            Ok(found) => {
                assert_eq!(found, expected, "cut to {len} of {}", whole.len());
                right += 1;
            }
            Err(error) => {
                let clean = matches!(error, Error::Damaged(_) | Error::NotAStore { .. });
                assert!(clean, "cut to {len}: {error}");
                bytes_refused(bytes, |error, _| {
                    matches!(
                        error,
                        Error::Damaged(_) | Error::NotAStore { .. } | Error::StoreExists
                    )
                });
                wrong += 1;
            }
        }
    }
    println!("{right} cuts opened, {wrong} did not");
    assert!(wrong > 0);
    Ok(())
}
