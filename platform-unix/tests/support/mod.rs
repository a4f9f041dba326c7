//! What the tests share: stores in temporary places, errors looked at closely, file systems mounted
//! for a moment, and test binaries run again as other processes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::error::Error;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use allod_core::{PlatformError, PlatformErrorKind};
use tempfile::TempDir;

pub(crate) type TestResult = Result<(), Box<dyn Error>>;

/// Checks the kind of a failure, and that a person can tell from it which file it was.
#[track_caller]
pub(crate) fn assert_failed<T: Debug>(
    result: Result<T, PlatformError>,
    kind: PlatformErrorKind,
    path: &Path,
) -> PlatformError {
    let error = result.expect_err("it must fail");
    assert_eq!(error.kind, kind, "{error}");
    let detail = error.detail.as_deref().unwrap_or_default();
    assert!(detail.contains(&path.display().to_string()), "no path in {error}");
    error
}

/// Runs one test of this very binary in another process, with `argument` in the environment.
pub(crate) fn child(test: &str, argument: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, argument);
    command
}

/// The argument, in the process that [`child`] started; such tests do nothing elsewhere.
pub(crate) fn child_argument() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

const CHILD: &str = "ALLOD_UNIX_TEST_CHILD";

#[track_caller]
pub(crate) fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A file system that is mounted for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Mount {
    place: TempDir,
    /// The file system that holds the image, if there is one, unmounted after this one.
    below: Option<Box<Mount>>,
}

impl Mount {
    /// Mounts a file system in memory, or says why this is not possible here.
    pub(crate) fn memory(kind: &str, options: &str) -> Option<Self> {
        Self::new(kind, options, "none".as_ref(), None)
    }

    /// Mounts an ext4 file system of `size` bytes whose image lies on `below`, which may be smaller.
    pub(crate) fn ext4(below: Mount, size: u64) -> Option<Self> {
        let image = below.path().join("image");
        let made = std::fs::File::create(&image).and_then(|file| file.set_len(size));
        made.expect("the image can be created");
        let mut format = Command::new("mkfs.ext4");
        // Without a journal, and with tables that are ready, little is written but what tests write.
        format.args(["-q", "-F", "-b", "4096", "-O", "^has_journal"]);
        format.args(["-E", "lazy_itable_init=0"]).arg(&image);
        if !ran(&mut format) {
            return None;
        }
        Self::new("ext4", "loop", &image, Some(Box::new(below)))
    }

    /// Mounts what is at `source` once more, where it cannot be written.
    pub(crate) fn read_only(source: &Path) -> Option<Self> {
        let mount = Self::new("none", "bind", source, None)?;
        let mut remount = Command::new("mount");
        ran(remount.args(["-o", "remount,bind,ro"]).arg(mount.path())).then_some(mount)
    }

    fn new(kind: &str, options: &str, source: &Path, below: Option<Box<Mount>>) -> Option<Self> {
        let place = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options]).arg(source).arg(place.path());
        ran(&mut mount).then_some(Self { place, below })
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a child that another test is about to start has copies of all open files for a
        // moment, which keep the file system busy.
        ran(Command::new("umount").arg("-l").arg(self.place.path()));
    }
}

/// Whether the command succeeded; prints why not.
fn ran(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("refused: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            println!("refused: {command:?}: {error}");
            false
        }
    }
}
