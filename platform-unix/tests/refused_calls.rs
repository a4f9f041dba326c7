//! Calls that the kernel refuses, one at a time, by a filter on the calls of one thread: what a
//! device, an old kernel, a sandbox or a strange file system answers, without having one.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use allod_core::{Platform, PlatformErrorKind as Kind};
use allod_unix::{Access, UnixPlatform};
use support::{TestResult, assert_failed};

/// Runs `work` in a thread whose `calls` fail with `errno`, each before it has done anything.
fn refusing(calls: &[libc::c_long], errno: i32, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if install(calls, errno) {
                work();
            } else {
                let error = std::io::Error::last_os_error();
                println!("skipped: the kernel takes no filter: {error}");
            }
        });
    });
}

/// Puts the filter on the calling thread, for the rest of its life.
fn install(calls: &[libc::c_long], errno: i32) -> bool {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first field of what the filter sees.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for &call in calls {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { code, jt: 0, jf: 1, k: call as u32 });
        let refuse = libc::SECCOMP_RET_ERRNO | errno as u32;
        filter.push(statement(libc::BPF_RET | libc::BPF_K, refuse));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to `filter`, which outlives the calls; the kernel copies it. Both
    // calls concern the calling thread only.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
                0,
                0,
            ) == 0
    }
}

/// A store that holds 10,000 bytes of the number 1.
fn store(dir: &Path) -> UnixPlatform {
    let platform = UnixPlatform::open(dir.join("store"), Access::CreateNew).expect("created");
    platform.write(0, &[1; 10_000]).expect("written");
    platform
}

#[test]
fn a_kernel_without_durable_writes_gets_a_write_and_a_sync() -> TestResult {
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL] {
        let dir = tempfile::tempdir()?;
        let platform = store(dir.path());
        refusing(&[libc::SYS_pwritev2, libc::SYS_preadv2], errno, || {
            platform.write_sync(100, b"durable").expect("there is another way");
            platform.write_sync(20_000, b"and longer").expect("it is remembered");
        });
        let bytes = fs::read(platform.path())?;
        assert_eq!(&bytes[100..107], b"durable");
        assert_eq!(&bytes[20_000..], b"and longer");
        // It is remembered: a thread that may not sync in that other way now fails.
        refusing(&[libc::SYS_fdatasync], libc::EIO, || {
            let error = assert_failed(platform.write_sync(0, b"x"), Kind::Io, platform.path());
            assert_eq!((error.operation, error.range), ("write_sync", Some((0, 1))));
        });
    }
    Ok(())
}

#[test]
fn a_durable_write_that_failed_is_not_tried_in_another_way() -> TestResult {
    let table = [
        (libc::EIO, Kind::Io),
        (libc::ENOSPC, Kind::NoSpace),
        (libc::EDQUOT, Kind::NoSpace),
        (libc::EROFS, Kind::ReadOnly),
        // What the kernel says of calls it does not know, although it knows this one: it is then
        // the report of a device.
        (libc::EOPNOTSUPP, Kind::Unsupported),
        (libc::EINVAL, Kind::Io),
    ];
    for (errno, kind) in table {
        let dir = tempfile::tempdir()?;
        let platform = store(dir.path());
        refusing(&[libc::SYS_pwritev2], errno, || {
            for _ in 0..2 {
                let result = platform.write_sync(100, b"durable");
                let error = assert_failed(result, kind, platform.path());
                assert_eq!(error.code, Some(errno));
                assert_eq!(error.operation, "write_sync");
                assert_eq!(error.range, Some((100, 7)));
            }
        });
        assert_eq!(fs::read(platform.path())?, [1; 10_000]);
        platform.write_sync(100, b"durable")?;
    }
    Ok(())
}

#[test]
fn failed_calls_say_what_they_were_about() -> TestResult {
    let dir = tempfile::tempdir()?;
    let platform = store(dir.path());
    let path = platform.path();
    let writes = [
        (libc::EIO, Kind::Io),
        (libc::ENOSPC, Kind::NoSpace),
        (libc::EDQUOT, Kind::NoSpace),
        (libc::EFBIG, Kind::NoSpace),
        (libc::EROFS, Kind::ReadOnly),
        (libc::EPERM, Kind::PermissionDenied),
    ];
    for (errno, kind) in writes {
        refusing(&[libc::SYS_pwrite64], errno, || {
            let error = assert_failed(platform.write(7, b"abc"), kind, path);
            assert_eq!((error.operation, error.range), ("write", Some((7, 3))));
            assert_eq!(error.code, Some(errno));
        });
    }
    refusing(&[libc::SYS_pread64], libc::EIO, || {
        let error = assert_failed(platform.read(5, &mut [0; 4]), Kind::Io, path);
        assert_eq!((error.operation, error.range), ("read", Some((5, 4))));
    });
    refusing(&[libc::SYS_fdatasync], libc::EIO, || {
        let error = assert_failed(platform.sync(), Kind::Io, path);
        assert_eq!((error.operation, error.code), ("sync", Some(libc::EIO)));
    });
    refusing(&[libc::SYS_ftruncate], libc::ENOSPC, || {
        let error = assert_failed(platform.grow(50_000), Kind::NoSpace, path);
        assert_eq!((error.operation, error.range), ("grow", Some((0, 50_000))));
        assert_failed(platform.write(50_000, b"x"), Kind::NoSpace, path);
        let error = assert_failed(platform.cut(5), Kind::NoSpace, path);
        assert_eq!(error.operation, "cut");
        // A cut that failed leaves the platform right about its length.
        platform.write(9_999, &[1]).expect("it lies inside the file");
    });
    refusing(&[libc::SYS_fallocate], libc::EIO, || {
        let error = assert_failed(platform.punch(0, 4096), Kind::Io, path);
        assert_eq!((error.operation, error.range), ("punch", Some((0, 4096))));
    });
    assert_eq!(fs::read(path)?, [1; 10_000]);
    Ok(())
}

#[test]
fn a_file_system_without_holes_is_asked_once() -> TestResult {
    for errno in [libc::EOPNOTSUPP, libc::ENOSYS] {
        let dir = tempfile::tempdir()?;
        let platform = store(dir.path());
        refusing(&[libc::SYS_fallocate], errno, || {
            assert_eq!(platform.punch(0, 8192), Ok(false));
        });
        // It is not asked again, hence does not fail either.
        refusing(&[libc::SYS_fallocate], libc::EIO, || {
            assert_eq!(platform.punch(0, 8192), Ok(false));
        });
        let path = platform.path().to_path_buf();
        drop(platform);
        refusing(&[libc::SYS_fallocate], errno, || {
            let platform = UnixPlatform::open(&path, Access::OpenExisting).expect("opened");
            assert!(!platform.capabilities().punch);
        });
    }
    Ok(())
}

#[test]
fn a_file_system_without_locks_is_told() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    for errno in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS] {
        refusing(&[libc::SYS_flock], errno, || {
            for access in [Access::OpenOrCreate, Access::ReadOnly] {
                let result = UnixPlatform::open(&path, access);
                let error = assert_failed(result, Kind::Unsupported, &path);
                assert_eq!((error.operation, error.code), ("lock", Some(errno)));
                assert!(error.to_string().contains("no locks"), "{error}");
            }
        });
    }
    Ok(())
}

#[test]
fn a_name_that_cannot_be_made_durable_is_an_error() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    refusing(&[libc::SYS_fsync], libc::EIO, || {
        // Neither when the file is created, nor when it is found empty.
        for _ in 0..2 {
            let result = UnixPlatform::open(&path, Access::OpenOrCreate);
            let error = assert_failed(result, Kind::Io, &path);
            assert_eq!((error.operation, error.code), ("sync", Some(libc::EIO)));
        }
    });
    refusing(&[libc::SYS_fsync], libc::EINVAL, || {
        let platform = UnixPlatform::open(&path, Access::OpenOrCreate);
        platform.and_then(|platform| platform.write(0, b"x")).expect("some directories refuse");
    });
    refusing(&[libc::SYS_fsync], libc::EIO, || {
        // The name of a file with bytes in it was made durable before they came.
        UnixPlatform::open(&path, Access::OpenOrCreate).expect("nothing to sync");
    });
    Ok(())
}

#[test]
fn a_kernel_without_a_random_call_has_a_random_device() -> TestResult {
    let dir = tempfile::tempdir()?;
    let platform = store(dir.path());
    refusing(&[libc::SYS_getrandom], libc::ENOSYS, || {
        let (first, second) = (platform.entropy(), platform.entropy());
        assert_ne!(first.expect("random"), second.expect("random"));
    });
    refusing(&[libc::SYS_getrandom], libc::EIO, || {
        assert_failed(platform.entropy(), Kind::Io, platform.path());
    });
    Ok(())
}

#[test]
fn a_full_table_of_open_files_is_an_error() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    refusing(&[libc::SYS_openat], libc::EMFILE, || {
        // What cannot be a store is not even opened.
        for other in [dir.path(), &pipe, "/dev/null".as_ref()] {
            let result = UnixPlatform::open(other, Access::OpenExisting);
            assert_failed(result, Kind::NotAFile, other);
        }
        let result = UnixPlatform::open(&path, Access::CreateNew);
        let error = assert_failed(result, Kind::Io, &path);
        assert_eq!((error.operation, error.code), ("open", Some(libc::EMFILE)));
    });
    Ok(())
}
