//! From a path to a file that is regular, locked, still the one the path names, and whose name is
//! durable.
//!
//! It is not where a store is recognised or made: the file that comes out may be empty, and may
//! hold anything.
//!
//! # Why in this order
//!
//! 1. *Look, then open.* A device or a pipe must not even be opened (opening can rewind a tape or
//!    wait for a writer), so the path is looked at first, and the open file again.
//! 2. *Lock.* The lock belongs to the open file, not to the path or the process, so every name of
//!    one file (hard links, symbolic links) meets the same lock.
//! 3. *Look again.* Between opening and locking, the holder of the lock may have removed or
//!    replaced the file. Whoever went on would write into a file without a name.
//! 4. *Make the name durable* if the file is empty. Whoever created it may have died, or may have
//!    lost the race for the lock, before doing so; an empty file is the only one whose name may be
//!    in doubt, since nobody gets to put bytes into it before this step.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use allod_core::{PlatformError, PlatformErrorKind as Kind};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::failure::{errno, failure, failure_because, is_unsupported, refusal};

/// How often opening starts anew when somebody replaces the file under its hands.
const ATTEMPTS: usize = 16;

/// What may happen to the file when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The file must exist and is only read. Any number of such opens can live at once, but not
    /// beside a writer: each is refused with `Locked` while the other lives.
    ReadOnly,
    /// The file must exist, and is read and written.
    OpenExisting,
    /// The file is created with a length of 0 if it does not exist, and is read and written.
    OpenOrCreate,
    /// The file must not exist; it is created with a length of 0, and is read and written.
    CreateNew,
}

/// Opens and locks the file, and makes its name durable if it is empty and writable.
pub(crate) fn open(path: &Path, access: Access) -> Result<File, PlatformError> {
    for _ in 0..ATTEMPTS {
        if let Some(file) = attempt(path, access)? {
            return Ok(file);
        }
    }
    Err(refusal(Kind::Io, "open", path, "it was replaced again and again while being opened"))
}

/// One round; `None` when somebody interfered and the next round may succeed.
fn attempt(path: &Path, access: Access) -> Result<Option<File>, PlatformError> {
    let file = match access {
        Access::CreateNew => create(path)?,
        Access::ReadOnly | Access::OpenExisting => existing(path, access)?,
        Access::OpenOrCreate => match existing(path, access) {
            Err(error) if error.code == Some(Errno::NOENT.raw_os_error()) => match create(path) {
                Err(error) if error.kind == Kind::AlreadyExists => {
                    refuse_dangling_link(path)?;
                    return Ok(None);
                }
                created => created?,
            },
            opened => opened?,
        },
    };
    lock(&file, path, access)?;
    let held = metadata(&file, path)?;
    if !still_named(&held, path)? {
        return Ok(None);
    }
    if access != Access::ReadOnly && held.len() == 0 {
        make_name_durable(&file, path)?;
    }
    Ok(Some(file))
}

/// Opens a file that exists.
fn existing(path: &Path, access: Access) -> Result<File, PlatformError> {
    let found = std::fs::metadata(path).map_err(|error| missing(path, errno(&error)))?;
    refuse_special(path, found.file_type())?;
    let file = options(access != Access::ReadOnly)
        .open(path)
        .map_err(|error| missing(path, errno(&error)))?;
    refuse_special(path, metadata(&file, path)?.file_type())?;
    Ok(file)
}

/// Creates a file that does not exist. Never follows a symbolic link in the last place.
fn create(path: &Path) -> Result<File, PlatformError> {
    options(true).create_new(true).open(path).map_err(|error| missing(path, errno(&error)))
}

/// Close-on-exec comes from the standard library, which also repeats interrupted calls. The file
/// never becomes the terminal of the process, and a pipe that took its place meanwhile never makes
/// the call wait; both flags mean nothing for regular files.
fn options(writable: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(writable).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    options
}

fn metadata(file: &File, path: &Path) -> Result<Metadata, PlatformError> {
    file.metadata().map_err(|error| failure("open", path, errno(&error)))
}

/// The failure of opening, saying which part of the path is missing.
fn missing(path: &Path, number: Errno) -> PlatformError {
    if number == Errno::NOENT {
        if let Some(parent) = parent(path) {
            if matches!(std::fs::metadata(parent), Err(error) if errno(&error) == Errno::NOENT) {
                let why = format!("the directory {} does not exist", parent.display());
                return failure_because("open", path, number, &why);
            }
        }
    }
    failure("open", path, number)
}

/// The directory that a path names its file in.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn refuse_special(path: &Path, kind: FileType) -> Result<(), PlatformError> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "it is a directory"
    } else if kind.is_fifo() {
        "it is a pipe"
    } else if kind.is_socket() {
        "it is a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "it is a device"
    } else {
        "it is not a regular file"
    };
    Err(refusal(Kind::NotAFile, "open", path, what))
}

/// A symbolic link to nothing neither exists (for opening) nor can be created in place.
fn refuse_dangling_link(path: &Path) -> Result<(), PlatformError> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match std::fs::metadata(path) {
        Err(error) if is_link && errno(&error) == Errno::NOENT => Err(failure_because(
            "open",
            path,
            Errno::NOENT,
            "it is a symbolic link to something that does not exist",
        )),
        _ => Ok(()),
    }
}

/// Takes the lock without waiting: shared for readers, exclusive for writers.
fn lock(file: &File, path: &Path, access: Access) -> Result<(), PlatformError> {
    let (operation, held) = match access {
        Access::ReadOnly => {
            (FlockOperation::NonBlockingLockShared, "it is open for writing elsewhere")
        }
        _ => (FlockOperation::NonBlockingLockExclusive, "it is open elsewhere"),
    };
    loop {
        return match rustix::fs::flock(file, operation) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(number) if number == Errno::WOULDBLOCK => {
                Err(failure_because("lock", path, number, held))
            }
            Err(number) if number == Errno::NOLCK || is_unsupported(number) => {
                let why = "the file system, or the server behind it, gives no locks";
                Err(failure_because("lock", path, number, why))
            }
            Err(number) => Err(failure("lock", path, number)),
        };
    }
}

/// Whether the path still names the file that was opened and locked.
fn still_named(held: &Metadata, path: &Path) -> Result<bool, PlatformError> {
    match std::fs::metadata(path) {
        Ok(named) => Ok(named.dev() == held.dev() && named.ino() == held.ino()),
        Err(error) if errno(&error) == Errno::NOENT => Ok(false),
        Err(error) => Err(failure("open", path, errno(&error))),
    }
}

/// Syncs the file and the directory that names it.
fn make_name_durable(file: &File, path: &Path) -> Result<(), PlatformError> {
    let fail = |error: io::Error| {
        let number = errno(&error);
        failure_because("sync", path, number, &format!("its name cannot be made durable: {error}"))
    };
    file.sync_all().or_else(tolerate_refusal).map_err(fail)?;
    // Through a symbolic link, it is the directory of the target that holds the name.
    let whole = std::fs::canonicalize(path).map_err(fail)?;
    let Some(directory) = whole.parent() else { return Ok(()) };
    let directory = match File::open(directory) {
        Ok(directory) => directory,
        // A directory in which one may create but not look cannot be opened, hence not synced.
        #[cfg(target_os = "linux")]
        Err(error) if errno(&error) == Errno::ACCESS => {
            return rustix::fs::syncfs(file).map_err(|number| fail(number.into()));
        }
        Err(error) => return Err(fail(error)),
    };
    directory.sync_all().or_else(tolerate_refusal).map_err(fail)
}

/// Some file systems (of networks, mostly) do not sync directories or empty files: the names in
/// them are as durable as they get.
fn tolerate_refusal(error: io::Error) -> io::Result<()> {
    let number = errno(&error);
    if number == Errno::INVAL || is_unsupported(number) { Ok(()) } else { Err(error) }
}
