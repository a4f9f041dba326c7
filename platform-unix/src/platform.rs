//! The platform itself: which calls of the system stand behind each method, and in what order.
//!
//! It is not where files are opened ([`opening`]), lengths change
//! ([`length`](crate::length)), or systems differ ([`system`]).

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allod_core::platform::{Capabilities, Platform};
use allod_core::{PlatformError, PlatformErrorKind as Kind};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::failure::{errno, failure, failure_because, refusal};
use crate::length::{LARGEST, Length, current};
use crate::mapping::UnixMapping;
use crate::opening::{self, Access};
use crate::system::{self, Refused, Stopped};

/// The open file and its lock, shared with every view of it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// The process that took the lock.
    owner: u32,
}

impl Drop for Held {
    /// Closing the file is not enough to unlock it: a child that was forked meanwhile, if only to
    /// start some program, has it open as well. Unlocking goes for all of them, so such a child must
    /// not do it to its parent.
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            // The lock is gone with the last copy of the file in any case.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// A regular file as the machine below a store.
///
/// # The lock
///
/// The file carries an advisory lock (`flock`), taken without waiting, for as long as the platform
/// *or any mapping of it* lives: an exclusive one for writers, a shared one for
/// [`Access::ReadOnly`]. Who comes too late is told [`Locked`](Kind::Locked).
///
/// * It belongs to the open file, so it also refuses a second open in the same process, and it is
///   the same for all names (hard and symbolic links) of one file.
/// * A child process that is forked must leave the platform alone: it shares the file, but the lock
///   stays its parent's, and goes when the parent drops it. An `exec` closes the file.
/// * The system drops it with the process, however that ends. No lock file stays behind.
/// * It binds only those who ask for it. A program that writes to the file without, or shortens it
///   under a mapping, does harm.
/// * On NFS it is a lock of the server's and as good as that; where a file system gives no locks,
///   opening fails with [`Unsupported`](Kind::Unsupported).
///
/// # Failures
///
/// Every error names the path, and the error number of the system where there is one. Interrupted
/// calls are repeated, and short ones continued. A full device, quota, `RLIMIT_FSIZE` or file system
/// limit is [`NoSpace`](Kind::NoSpace); a write that would pass the `RLIMIT_FSIZE` found when the
/// file was opened or last grew is refused before the system would raise `SIGXFSZ`. A limit that is
/// lowered below the length of an open file can still raise that signal, which Rust's runtime does
/// not ignore. A failed sync is reported and never repeated.
pub struct UnixPlatform {
    held: Arc<Held>,
    capabilities: Capabilities,
    length: Length,
    refused: Refused,
}

impl UnixPlatform {
    /// Opens and locks the file at `path`.
    ///
    /// A file that is created, or found empty by a writer, is synced together with the directory
    /// that names it before this returns: its name survives a crash. A crash before that leaves
    /// either no file or one of length 0, which opens like a new one with every access but
    /// [`Access::CreateNew`]. A failure after the creation leaves the empty file behind. The content
    /// of an existing file is never changed by opening it.
    ///
    /// Symbolic links to files are followed. Costs a few calls to the system, and two syncs when
    /// the file is empty.
    ///
    /// # Errors
    ///
    /// * [`NotFound`](Kind::NotFound): no file there (and none to be created), or no directory to
    ///   create it in, or a symbolic link to nothing.
    /// * [`AlreadyExists`](Kind::AlreadyExists): with [`Access::CreateNew`], anything is there.
    /// * [`NotAFile`](Kind::NotAFile): a directory, pipe, socket or device is there.
    /// * [`Locked`](Kind::Locked): somebody else has it open, here or in another process.
    /// * [`PermissionDenied`](Kind::PermissionDenied), [`ReadOnly`](Kind::ReadOnly) (the file
    ///   system), [`NoSpace`](Kind::NoSpace), [`Unsupported`](Kind::Unsupported) (no locks there),
    ///   [`Io`](Kind::Io).
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self, PlatformError> {
        let path = path.as_ref();
        let file = opening::open(path, access)?;
        let fail = |number| failure("open", path, number);
        let length = Length::new(&file).map_err(fail)?;
        let refused = Refused::default();
        let read_only = access == Access::ReadOnly;
        if !read_only {
            refused.probe_punch(&file, current(&file).map_err(fail)?);
        }
        let capabilities = Capabilities {
            // Not `st_blksize`, which is a hint for the size of calls (a megabyte on some file
            // systems of networks): no smaller than the sectors of any device, and the piece in
            // which the common file systems write back.
            page_size: 4096,
            sparse: true,
            punch: !read_only && refused.can_punch(),
            read_only,
        };
        let held = Arc::new(Held { file, path: path.to_path_buf(), owner: std::process::id() });
        Ok(Self { held, capabilities, length, refused })
    }

    /// The path that the file was opened by, as it was given.
    pub fn path(&self) -> &Path {
        &self.held.path
    }

    fn file(&self) -> &File {
        &self.held.file
    }

    fn fail(&self, operation: &'static str, number: Errno) -> PlatformError {
        failure(operation, self.path(), number)
    }

    fn refuse_read_only(&self, operation: &'static str) -> Result<(), PlatformError> {
        if self.capabilities.read_only {
            return Err(refusal(Kind::ReadOnly, operation, self.path(), "it is open for reading"));
        }
        Ok(())
    }

    /// What comes before every write: the file is writable, and long enough for the bytes.
    fn prepare_write(
        &self,
        operation: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<(), PlatformError> {
        self.refuse_read_only(operation).map_err(|error| error.at(offset, len))?;
        if len == 0 {
            return Ok(());
        }
        // What does not fit 64 bits does not fit the system either.
        let end = offset.saturating_add(len);
        self.length
            .cover(self.file(), end)
            .map_err(|number| self.fail(operation, number).at(offset, len))
    }

    fn write_prepared(
        &self,
        operation: &'static str,
        offset: u64,
        bytes: &[u8],
        done: usize,
    ) -> Result<(), PlatformError> {
        let start = offset.saturating_add(done as u64);
        let rest = bytes.get(done..).unwrap_or_default();
        system::write_pieces(start, rest, |offset, piece| {
            rustix::io::pwrite(self.file(), piece, offset)
        })
        .map_err(|stopped| {
            let stopped = Stopped { done: done + stopped.done, ..stopped };
            self.stopped(operation, offset, bytes, &stopped)
        })
    }

    /// The failure of a write that stopped half-way.
    fn stopped(
        &self,
        operation: &'static str,
        offset: u64,
        bytes: &[u8],
        stopped: &Stopped,
    ) -> PlatformError {
        let error = if stopped.done == 0 {
            self.fail(operation, stopped.errno)
        } else {
            let why = format!("after {} bytes of {}", stopped.done, bytes.len());
            failure_because(operation, self.path(), stopped.errno, &why)
        };
        error.at(offset, bytes.len() as u64)
    }
}

impl Platform for UnixPlatform {
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;
    type Mapping = UnixMapping;

    /// Pages of 4,096 bytes, sparse. Whether holes can be made is found out when a file is opened
    /// for writing; where the system cannot tell beforehand (macOS), this says yes, and
    /// [`punch`](Platform::punch) answers `false` if it turns out otherwise.
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn len(&self) -> Result<u64, PlatformError> {
        current(self.file()).map_err(|number| self.fail("len", number))
    }

    /// Only sets the length (`ftruncate`): no space is taken, so that a later write may still find
    /// the device full.
    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.refuse_read_only("grow")?;
        self.length.grow(self.file(), len).map_err(|number| self.fail("grow", number).at(0, len))
    }

    /// A write under way at or behind `len` may land before or after the cut.
    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.refuse_read_only("cut")?;
        self.length.cut(self.file(), len).map_err(|number| self.fail("cut", number).at(0, len))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        let len = buf.len() as u64;
        let short = |end: u64| {
            refusal(Kind::UnexpectedEnd, "read", self.path(), &format!("the file ends at {end}"))
                .at(offset, len)
        };
        if offset.checked_add(len).is_none_or(|end| end > LARGEST) {
            return Err(short(self.len()?));
        }
        let count = system::read_pieces(offset, buf, |offset, piece| {
            rustix::io::pread(self.file(), piece, offset)
        })
        .map_err(|number| self.fail("read", number).at(offset, len))?;
        if count < buf.len() { Err(short(self.len()?)) } else { Ok(()) }
    }

    /// Where the bytes pass the end, the file grows first and is written then. A failure in between
    /// leaves it longer, with zeros.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.prepare_write("write", offset, bytes.len() as u64)?;
        self.write_prepared("write", offset, bytes, 0)
    }

    /// One `pwritev2` with `RWF_DSYNC` on Linux, whatever else in the file waits to be written;
    /// elsewhere, and on kernels before 4.7, a write and a sync of everything. A failure is reported
    /// as it is: the bytes are not tried again in another way.
    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.prepare_write("write_sync", offset, bytes.len() as u64)?;
        let done = self
            .refused
            .write_durably(self.file(), offset, bytes)
            .map_err(|stopped| self.stopped("write_sync", offset, bytes, &stopped))?;
        if done == bytes.len() {
            return Ok(());
        }
        self.write_prepared("write_sync", offset, bytes, done)?;
        self.refused
            .sync(self.file())
            .map_err(|number| self.fail("write_sync", number).at(offset, bytes.len() as u64))
    }

    /// `fdatasync`; on macOS `F_FULLFSYNC`, or `fsync` where the file system refuses that. Nothing
    /// to do where the file is open for reading.
    fn sync(&self) -> Result<(), PlatformError> {
        if self.capabilities.read_only {
            return Ok(());
        }
        self.refused.sync(self.file()).map_err(|number| self.fail("sync", number))
    }

    /// `fallocate` on Linux, `F_PUNCHHOLE` on macOS, `fspacectl` on FreeBSD. A file system that
    /// cannot is asked once. On macOS, parts of blocks at both ends stay.
    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        self.refuse_read_only("punch").map_err(|error| error.at(offset, len))?;
        if offset.checked_add(len).is_none_or(|end| end > LARGEST) {
            let why = "no file reaches so far";
            return Err(refusal(Kind::UnexpectedEnd, "punch", self.path(), why).at(offset, len));
        }
        if len == 0 {
            return Ok(false);
        }
        self.refused
            .punch(self.file(), offset, len)
            .map_err(|number| self.fail("punch", number).at(offset, len))
    }

    /// The length is rounded up to a multiple of 64 KiB. `None` where addresses or views run out,
    /// where the file system cannot map, and for more than 1 GiB at once on 32-bit machines.
    fn map(&self, len: u64) -> Result<Option<UnixMapping>, PlatformError> {
        UnixMapping::new(&self.held, len).map_err(|number| self.fail("map", number).at(0, len))
    }

    /// The blocks of the file, as far as the file system has decided on them: bytes not yet written
    /// back may be missing.
    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        // Blocks of 512 bytes, whatever those of the file system are.
        let found = self.file().metadata();
        found
            .map(|found| Some(found.blocks().saturating_mul(512)))
            .map_err(|error| self.fail("allocated", errno(&error)))
    }

    fn entropy(&self) -> Result<u128, PlatformError> {
        system::entropy().map_err(|number| self.fail("entropy", number))
    }

    fn yield_now(&self) {
        std::thread::yield_now();
    }

    /// Never 0, and never used twice in a process.
    fn thread(&self) -> u64 {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        thread_local! {
            static THREAD: Cell<usize> = const { Cell::new(0) };
        }
        // Nothing in the cell needs dropping, so it can be had even while a thread ends.
        THREAD.with(|number| {
            if number.get() == 0 {
                number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            number.get() as u64
        })
    }
}

impl fmt::Debug for UnixPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixPlatform")
            .field("path", &self.held.path)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}
