//! What opening a file answers to everything that can be at a path.

#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use allod_core::{Platform, PlatformErrorKind as Kind};
use allod_unix::{Access, UnixPlatform};
use support::{TestResult, assert_failed};

const EVERY_OPENING: [Access; 3] = [Access::ReadOnly, Access::OpenExisting, Access::OpenOrCreate];

#[test]
fn a_missing_file_is_found_missing_or_created() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    for access in [Access::ReadOnly, Access::OpenExisting] {
        let error = assert_failed(UnixPlatform::open(&path, access), Kind::NotFound, &path);
        assert_eq!(error.code, Some(libc::ENOENT));
        assert!(!path.exists());
    }
    for access in [Access::OpenOrCreate, Access::CreateNew] {
        let platform = UnixPlatform::open(&path, access)?;
        assert_eq!(platform.path(), path);
        assert_eq!(platform.len()?, 0);
        assert!(!platform.capabilities().read_only);
        assert!(format!("{platform:?}").contains("store"));
        fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn a_missing_directory_is_named() -> TestResult {
    let dir = tempfile::tempdir()?;
    let parent = dir.path().join("missing");
    let path = parent.join("store");
    for access in [Access::CreateNew, Access::ReadOnly, Access::OpenExisting, Access::OpenOrCreate]
    {
        let error = assert_failed(UnixPlatform::open(&path, access), Kind::NotFound, &path);
        let why = format!("the directory {} does not exist", parent.display());
        assert!(error.to_string().contains(&why), "{error}");
    }
    Ok(())
}

#[test]
fn a_file_in_place_of_a_directory_is_not_found() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("file"), b"")?;
    let path = dir.path().join("file/store");
    for access in [Access::CreateNew, Access::OpenOrCreate, Access::ReadOnly] {
        let error = assert_failed(UnixPlatform::open(&path, access), Kind::NotFound, &path);
        assert_eq!(error.code, Some(libc::ENOTDIR));
    }
    Ok(())
}

#[test]
fn names_that_no_system_takes_are_refused() {
    for name in ["", "nul\0inside", &"x".repeat(300)] {
        for access in [Access::CreateNew, Access::OpenOrCreate, Access::ReadOnly] {
            let error = UnixPlatform::open(name, access).expect_err("no file has that name");
            assert!(error.code.is_some(), "{error}");
        }
    }
}

#[test]
fn what_exists_is_not_created() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    fs::write(&path, b"content")?;
    let error =
        assert_failed(UnixPlatform::open(&path, Access::CreateNew), Kind::AlreadyExists, &path);
    assert_eq!(error.code, Some(libc::EEXIST));
    for access in EVERY_OPENING {
        let platform = UnixPlatform::open(&path, access)?;
        assert_eq!(platform.len()?, 7, "{access:?} must not touch the content");
    }
    assert_eq!(fs::read(&path)?, b"content");
    Ok(())
}

#[test]
fn what_is_not_a_regular_file_is_not_opened() -> TestResult {
    let dir = tempfile::tempdir()?;
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket)?;
    let link = dir.path().join("link");
    symlink("/dev/null", &link)?;
    let table = [
        (dir.path(), "directory"),
        (&pipe, "pipe"),
        (&socket, "socket"),
        ("/dev/null".as_ref(), "device"),
        (&link, "device"),
    ];
    for (path, what) in table {
        for access in EVERY_OPENING {
            let error = assert_failed(UnixPlatform::open(path, access), Kind::NotAFile, path);
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_failed(UnixPlatform::open(path, Access::CreateNew), Kind::AlreadyExists, path);
    }
    Ok(())
}

#[test]
fn a_creation_that_was_interrupted_is_taken_up() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    drop(UnixPlatform::open(&path, Access::CreateNew)?);
    assert_eq!(fs::metadata(&path)?.len(), 0);
    assert_failed(UnixPlatform::open(&path, Access::CreateNew), Kind::AlreadyExists, &path);
    for access in EVERY_OPENING {
        assert!(UnixPlatform::open(&path, access)?.is_empty()?);
    }
    Ok(())
}

#[test]
fn links_to_files_are_followed_and_links_to_nothing_are_not_filled() -> TestResult {
    let dir = tempfile::tempdir()?;
    let target = dir.path().join("target");
    let link = dir.path().join("link");
    symlink("target", &link)?;
    for access in EVERY_OPENING {
        assert_failed(UnixPlatform::open(&link, access), Kind::NotFound, &link);
    }
    assert_failed(UnixPlatform::open(&link, Access::CreateNew), Kind::AlreadyExists, &link);
    assert!(!target.exists());

    fs::write(&target, b"content")?;
    for access in EVERY_OPENING {
        assert_eq!(UnixPlatform::open(&link, access)?.len()?, 7);
    }
    let round = dir.path().join("round");
    symlink("round", &round)?;
    let error =
        assert_failed(UnixPlatform::open(&round, Access::OpenOrCreate), Kind::NotFound, &round);
    assert_eq!(error.code, Some(libc::ELOOP));
    Ok(())
}

#[test]
fn a_relative_path_without_a_directory_works() -> TestResult {
    // The working directory belongs to the whole process, hence a directory of its own for the file.
    let dir = tempfile::tempdir_in(".")?;
    let name = dir.path().file_name().expect("it has a name");
    let path = std::path::Path::new(name).join("store");
    let platform = UnixPlatform::open(&path, Access::CreateNew)?;
    platform.write(0, b"x")?;
    assert_eq!(fs::read(dir.path().join("store"))?, b"x");
    Ok(())
}

#[test]
fn a_file_open_for_reading_refuses_every_change() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    fs::write(&path, b"content")?;
    let platform = UnixPlatform::open(&path, Access::ReadOnly)?;
    assert!(platform.capabilities().read_only);
    assert!(!platform.capabilities().punch);
    assert_failed(platform.write(0, b"x"), Kind::ReadOnly, &path);
    assert_failed(platform.write(0, b""), Kind::ReadOnly, &path);
    assert_failed(platform.write_sync(3, b"x"), Kind::ReadOnly, &path);
    assert_failed(platform.grow(100), Kind::ReadOnly, &path);
    assert_failed(platform.cut(1), Kind::ReadOnly, &path);
    assert_failed(platform.punch(0, 4096), Kind::ReadOnly, &path);
    platform.sync()?;
    let mut bytes = [0; 7];
    platform.read(0, &mut bytes)?;
    assert_eq!(&bytes, b"content");
    assert_eq!(fs::read(&path)?, b"content");
    Ok(())
}

/// Runs `work` as a user whom permissions bind: a thread of root's becomes somebody else.
fn as_ordinary_user(work: impl FnOnce() -> TestResult + Send) -> TestResult {
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    #[cfg(target_os = "linux")]
    return std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody)
                .expect("root may become somebody else");
            work().map_err(|error| error.to_string())
        });
        Ok(thread.join().expect("no panic")?)
    });
    #[cfg(not(target_os = "linux"))]
    {
        println!("skipped: root, and no thread of it can become somebody else here");
        Ok(())
    }
}

#[test]
fn permissions_are_respected_and_told() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let secret = dir.path().join("secret");
    fs::write(&secret, b"content")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000))?;
    let readable = dir.path().join("readable");
    fs::write(&readable, b"content")?;
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o444))?;
    let locked = dir.path().join("locked");
    fs::create_dir(&locked)?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000))?;
    let crowded = dir.path().join("crowded");
    fs::create_dir(&crowded)?;
    fs::set_permissions(&crowded, fs::Permissions::from_mode(0o555))?;
    as_ordinary_user(|| {
        for access in EVERY_OPENING {
            let error =
                assert_failed(UnixPlatform::open(&secret, access), Kind::PermissionDenied, &secret);
            assert_eq!(error.code, Some(libc::EACCES));
        }
        for access in [Access::OpenExisting, Access::OpenOrCreate] {
            let result = UnixPlatform::open(&readable, access);
            assert_failed(result, Kind::PermissionDenied, &readable);
        }
        assert_eq!(UnixPlatform::open(&readable, Access::ReadOnly)?.len()?, 7);
        for path in [locked.join("store"), crowded.join("store")] {
            for access in [Access::CreateNew, Access::OpenOrCreate] {
                let result = UnixPlatform::open(&path, access);
                assert_failed(result, Kind::PermissionDenied, &path);
            }
        }
        Ok(())
    })?;
    // So that the directory can be removed by whoever runs the test.
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(&crowded, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_looked_into_can_hold_a_store() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let blind = dir.path().join("blind");
    fs::create_dir(&blind)?;
    fs::set_permissions(&blind, fs::Permissions::from_mode(0o333))?;
    as_ordinary_user(|| {
        let platform = UnixPlatform::open(blind.join("store"), Access::CreateNew)?;
        platform.write_sync(0, b"x")?;
        Ok(())
    })?;
    fs::set_permissions(&blind, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_system_is_told() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("store"), b"content")?;
    let Some(mount) = support::Mount::read_only(dir.path()) else { return Ok(()) };
    let path = mount.path().join("store");
    for access in [Access::OpenExisting, Access::OpenOrCreate] {
        let error = assert_failed(UnixPlatform::open(&path, access), Kind::ReadOnly, &path);
        assert_eq!(error.code, Some(libc::EROFS));
    }
    let fresh = mount.path().join("fresh");
    for access in [Access::CreateNew, Access::OpenOrCreate] {
        assert_failed(UnixPlatform::open(&fresh, access), Kind::ReadOnly, &fresh);
    }
    assert_eq!(UnixPlatform::open(&path, Access::ReadOnly)?.len()?, 7);
    Ok(())
}
