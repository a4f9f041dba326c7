//! Stores in files: from a path and options to a locked file with a store in it.
//!
//! What may become of the *file* is the platform's to decide ([`Access`]), what may become of the
//! *store* in it the core's ([`Create`]); this is where the one follows from the other.

use std::path::Path;

use allod_unix::{Access, UnixPlatform};

use crate::{Create, Options, Result, Store};

/// A store in a file.
pub type FileStore = Store<UnixPlatform>;

/// Opens the store in the file at `path` for reading and writing; makes both if they are not there.
///
/// The directory must exist. The file is locked until the last handle, region, appender and reader
/// of the store is dropped. An empty file counts as none. Costs what [`Options::open`] says; making
/// a store takes five syncs.
///
/// # Errors
///
/// As [`open_with`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.allod");
/// let store = allod::open(&path)?;
/// store.region_or_create("visits")?.append(&[1])?;
/// store.close()?;
///
/// let store = allod::open_read_only(&path)?;
/// assert_eq!(store.region("visits").unwrap().len()?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(path: impl AsRef<Path>) -> Result<FileStore> {
    open_with(path, &Options::new())
}

/// Opens the store in the file at `path` for reading only. Nothing is written, not even by recovery
/// after a crash, so that it works on read-only media. Any number of such opens can live at once,
/// but not beside a writer.
///
/// # Errors
///
/// As [`open_with`], but for those about making a store.
pub fn open_read_only(path: impl AsRef<Path>) -> Result<FileStore> {
    open_with(path, &Options::new().read_only(true))
}

/// Opens the store in the file at `path` as the options say.
///
/// The file is made if it is not there, unless the options say [`Create::Never`] or
/// [`read_only`](Options::read_only). With [`Create::Always`] it may be there if it holds no store
/// yet: if it is empty, or a crash left a store there whose making never finished. A file that
/// holds anything else is never overwritten. If making the store fails, an empty or unfinished file
/// stays behind, which opens like none.
///
/// # Errors
///
/// [`Error::Platform`](crate::Error::Platform), with the path in its words, if the file cannot be
/// had: its kind is `NotFound`, `Locked` (somebody else has it open), `NotAFile` (a directory, for
/// example), `PermissionDenied`, `ReadOnly` (the file system), `NoSpace`, or another one of
/// [`PlatformErrorKind`](crate::PlatformErrorKind). Else what [`Options::open`] says.
///
/// ```
/// use allod::{Create, Error, Options};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.allod");
/// let options = Options::new().create(Create::Always).memory_budget(16 << 20);
/// allod::open_with(&path, &options)?;
/// assert_eq!(allod::open_with(&path, &options).unwrap_err(), Error::StoreExists);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<FileStore> {
    options.open(UnixPlatform::open(path, access(options)?)?)
}

/// What the options mean for the file.
fn access(options: &Options) -> Result<Access> {
    let existing = Options::new().open(allod_mem::MemPlatform::new())?.platform().snapshot();
    let read_only =
        options.clone().create(Create::IfMissing).min_len(0).open(existing)?.is_read_only();
    let makes = options.clone().min_len(0).open(allod_mem::MemPlatform::new()).is_ok();
    Ok(match (read_only, makes) {
        (true, _) => Access::ReadOnly,
        (false, false) => Access::OpenExisting,
        (false, true) => Access::OpenOrCreate,
    })
}
