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
    options.open(UnixPlatform::open(path, access(options))?)
}

/// What the options mean for the file.
fn access(options: &Options) -> Access {
    match (options.reads_only(), options.creation()) {
        (true, _) => Access::ReadOnly,
        (false, Create::Never) => Access::OpenExisting,
        // Whether there is a store in the file is for the core to see, also if there must be none.
        (false, Create::IfMissing | Create::Always) => Access::OpenOrCreate,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::{Error, PlatformErrorKind as Kind};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("store");
        (directory, path)
    }

    fn kind(result: Result<FileStore>) -> Kind {
        match result {
            Err(Error::Platform(error)) => error.kind,
            other => panic!("not an error of the platform: {other:?}"),
        }
    }

    #[test]
    fn options_decide_what_may_become_of_the_file() {
        let all = [
            (Create::IfMissing, false, Access::OpenOrCreate),
            (Create::Always, false, Access::OpenOrCreate),
            (Create::Never, false, Access::OpenExisting),
            (Create::IfMissing, true, Access::ReadOnly),
            (Create::Always, true, Access::ReadOnly),
            (Create::Never, true, Access::ReadOnly),
        ];
        for (create, read_only, expected) in all {
            let options = Options::new().create(create).read_only(read_only).min_len(1 << 40);
            assert_eq!(access(&options), expected, "{options:?}");
        }
    }

    #[test]
    fn what_was_flushed_is_there_after_reopening() -> Result<()> {
        let (_directory, path) = place();
        let store = open(&path)?;
        store.create_region("a")?.append(b"kept")?;
        store.flush()?;
        store.create_region("b")?.append(b"lost")?;
        drop(store);
        for read_only in [true, false] {
            let store = open_with(&path, &Options::new().read_only(read_only))?;
            assert_eq!(store.region("a").map(|region| region.read_all()), Some(Ok(b"kept".into())));
            assert!(!store.contains("b"));
        }
        Ok(())
    }

    #[test]
    fn nothing_is_made_unless_asked_for() {
        let (_directory, path) = place();
        assert_eq!(kind(open_read_only(&path)), Kind::NotFound);
        assert_eq!(kind(open_with(&path, &Options::new().create(Create::Never))), Kind::NotFound);
        let both = Options::new().create(Create::Always).read_only(true);
        assert_eq!(kind(open_with(&path, &both)), Kind::NotFound);
        assert!(!path.exists());
    }

    #[test]
    fn create_always_refuses_a_store_and_takes_an_empty_file() -> Result<()> {
        let (_directory, path) = place();
        let always = Options::new().create(Create::Always);
        fs::write(&path, b"").expect("an empty file");
        drop(open_with(&path, &always)?);
        let before = fs::read(&path).expect("the file");
        assert_eq!(open_with(&path, &always).err(), Some(Error::StoreExists));
        assert_eq!(fs::read(&path).expect("the file"), before);
        Ok(())
    }

    #[test]
    fn a_file_that_is_no_store_is_left_alone() {
        let (_directory, path) = place();
        let text = "a letter to somebody\n".repeat(10_000);
        fs::write(&path, &text).expect("a file");
        for create in [Create::IfMissing, Create::Never, Create::Always] {
            for read_only in [false, true] {
                let options = Options::new().create(create).read_only(read_only);
                let error = open_with(&path, &options).err();
                assert!(matches!(error, Some(Error::NotAStore { .. })), "{options:?}: {error:?}");
            }
        }
        assert_eq!(fs::read(&path).expect("the file"), text.as_bytes());
    }

    #[test]
    fn the_path_is_in_the_error() {
        let (directory, path) = place();
        let is_directory = open(directory.path());
        let no_directory = open(path.join("store"));
        for (result, expected) in [(is_directory, Kind::NotAFile), (no_directory, Kind::NotFound)] {
            let words = result.as_ref().map_err(Error::to_string).expect_err("an error");
            assert!(words.contains(&*directory.path().to_string_lossy()), "{words}");
            assert_eq!(kind(result), expected);
        }
    }

    #[test]
    fn one_writer_or_many_readers() -> Result<()> {
        let (_directory, path) = place();
        let writer = open(&path)?;
        let region = writer.create_region("a")?;
        region.append(b"x")?;
        writer.flush()?;
        assert_eq!(kind(open(&path)), Kind::Locked);
        assert_eq!(kind(open_read_only(&path)), Kind::Locked);
        // A handle and a reader keep the file locked as well as the store does.
        drop(writer);
        assert_eq!(kind(open(&path)), Kind::Locked);
        let reader = region.reader()?;
        drop(region);
        assert_eq!(kind(open(&path)), Kind::Locked);
        drop(reader);
        let (_one, _two) = (open_read_only(&path)?, open_read_only(&path)?);
        assert_eq!(kind(open(&path)), Kind::Locked);
        Ok(())
    }

    #[test]
    fn a_read_only_store_refuses_changes() -> Result<()> {
        let (_directory, path) = place();
        drop(open(&path)?);
        let before = fs::read(&path).expect("the file");
        let store = open_read_only(&path)?;
        assert!(store.is_read_only());
        assert_eq!(store.create_region("a").err(), Some(Error::ReadOnly));
        drop(store);
        assert_eq!(fs::read(&path).expect("the file"), before);
        Ok(())
    }
}
