//! Errors: what went wrong, where, what was expected and what was found.
//!
//! [`PlatformError`] is what the machine below said; [`Error`] is what the store says. Neither is a
//! panic: a panic is for a broken invariant of the store's own.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

/// The kinds of failure that a machine reports, as far as the store or its user can act on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlatformErrorKind {
    /// The device, a quota or a limit on the size of files is exhausted.
    NoSpace,
    /// Somebody else has the store open for writing.
    Locked,
    /// There is nothing at that place.
    NotFound,
    /// Something is there although it must not be.
    AlreadyExists,
    /// The machine does not allow it.
    PermissionDenied,
    /// The file, file system or handle cannot be written.
    ReadOnly,
    /// The place is a directory, a pipe, or something else that cannot hold a store.
    NotAFile,
    /// The bytes ended before the range did.
    UnexpectedEnd,
    /// The machine, or this build, cannot do that.
    Unsupported,
    /// The device failed, or anything not named above.
    Io,
}

impl fmt::Display for PlatformErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "no space left",
            Self::Locked => "locked by another writer",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::ReadOnly => "read-only",
            Self::NotAFile => "not a regular file",
            Self::UnexpectedEnd => "unexpected end",
            Self::Unsupported => "not supported",
            Self::Io => "input/output error",
        })
    }
}

/// A call to the machine that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformError {
    /// What kind of failure it is.
    pub kind: PlatformErrorKind,
    /// The call that failed: `"write"`, `"sync"`, `"open"` …
    pub operation: &'static str,
    /// Where in the store's bytes, and how many of them, when the call was about a range.
    pub range: Option<(u64, u64)>,
    /// The error number of the operating system, where there is one.
    pub code: Option<i32>,
    /// Anything else that helps a person: a path, a message of the system.
    pub detail: Option<Box<str>>,
}

impl PlatformError {
    /// A failure of `operation` of the given kind.
    pub fn new(kind: PlatformErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, range: None, code: None, detail: None }
    }

    /// The same, saying that it was about `len` bytes at `offset`.
    #[must_use]
    pub fn at(mut self, offset: u64, len: u64) -> Self {
        self.range = Some((offset, len));
        self
    }

    /// The same, with the error number of the operating system.
    #[must_use]
    pub fn code(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    /// The same, with words for a person.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.operation, self.kind)?;
        if let Some((offset, len)) = self.range {
            write!(f, " ({len} bytes at offset {offset})")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(code) = self.code {
            write!(f, " [os error {code}]")?;
        }
        Ok(())
    }
}

impl core::error::Error for PlatformError {}

/// What the store says when it cannot do what was asked.
///
/// After any error but [`Error::Poisoned`] the store is as it was before the call, unless the call
/// says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The machine below failed. The store goes on.
    Platform(PlatformError),
    /// A sync, or a write that a flush depends on, failed earlier: what the device holds is
    /// unknown. Readers go on; everything else says this until the store is opened again, which
    /// recovers what the device really holds.
    Poisoned {
        /// The failure that poisoned the store.
        cause: PlatformError,
    },
    /// The bytes do not start with a superblock.
    NotAStore {
        /// How many bytes there are.
        len: u64,
        /// The first eight of them (zeros where there are fewer).
        found: [u8; 8],
    },
    /// Creation of the store never finished: nothing was ever acknowledged in it. Opening with
    /// permission to create makes it anew.
    Unfinished,
    /// The store was written by a later version, or uses features this one does not know.
    Newer {
        /// The format version found.
        version: u32,
        /// The newest format version that this build reads.
        supported: u32,
        /// Feature bits that this build does not know.
        features: u64,
    },
    /// The bytes are not what was written: a checksum, a limit or a reference is wrong, and no
    /// crash can have caused it. Nothing was changed.
    Damaged(Damage),
    /// The store, or the platform, is open for reading only.
    ReadOnly,
    /// A store exists already, and the caller demanded a new one.
    StoreExists,
    /// There is no store, and the caller forbade making one.
    NoStore,
    /// The platform's pages are larger than those of the store, so that writing through it could
    /// tear neighbours.
    PageSize {
        /// The page size of the store, in bytes.
        store: u32,
        /// The page size of the platform, in bytes.
        platform: u32,
    },
    /// The name of a region is empty, longer than 1,024 bytes, or holds a control character.
    InvalidName {
        /// The length of the name in bytes.
        len: usize,
        /// Where the offending character starts, when it is a character.
        position: Option<usize>,
    },
    /// A region of that name exists.
    RegionExists {
        /// The name.
        name: Box<str>,
    },
    /// No region has that name.
    NoRegion {
        /// The name.
        name: Box<str>,
    },
    /// The handle is of a region that was removed.
    RegionRemoved {
        /// The id that the region had.
        id: u64,
    },
    /// The range does not lie inside the region.
    OutOfRange {
        /// The region's id.
        id: u64,
        /// Where the range starts.
        offset: u64,
        /// How long the range is.
        len: u64,
        /// How long the region is.
        region_len: u64,
    },
    /// The region, the store or an option would pass a limit.
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        requested: u64,
        /// The limit.
        limit: u64,
    },
    /// An [`Appender`](crate::Appender) holds the region: nobody else may change its bytes.
    AppenderActive {
        /// The region's id.
        id: u64,
    },
    /// The calling thread holds the cut open ([`Hold`](crate::Hold)) and asked for a flush, which
    /// would wait for itself for ever. Use [`Hold::flush`](crate::Hold::flush).
    HoldActive,
    /// The platform could not give memory or address space, or a number does not fit it.
    OutOfMemory {
        /// How many bytes were asked for.
        requested: u64,
    },
}

/// A place in the store's bytes that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong, in words: `"checkpoint checksum"`, `"region extent"` …
    pub what: &'static str,
    /// The region concerned, by id, if one is.
    pub region: Option<u64>,
    /// The byte offset of the damage in the store.
    pub offset: u64,
    /// What was expected there.
    pub expected: u64,
    /// What was found there.
    pub found: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.what, self.offset)?;
        if let Some(id) = self.region {
            write!(f, " (region {id})")?;
        }
        write!(f, ": expected {:#x}, found {:#x}", self.expected, self.found)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(e) => write!(f, "{e}"),
            Self::Poisoned { cause } => {
                write!(f, "the store is poisoned, reopen it: an earlier {cause}")
            }
            Self::NotAStore { len, found } => {
                write!(f, "not an allod store: {len} bytes that start with {found:02x?}")
            }
            Self::Unfinished => f.write_str(
                "the creation of this store never finished; open it with permission to create",
            ),
            Self::Newer { version, supported, features } => write!(
                f,
                "the store has format version {version} with unknown features {features:#x}; this \
                 build reads up to version {supported}"
            ),
            Self::Damaged(damage) => write!(f, "the store is damaged: {damage}"),
            Self::ReadOnly => f.write_str("the store is open for reading only"),
            Self::StoreExists => f.write_str("a store exists there already"),
            Self::NoStore => f.write_str("there is no store there"),
            Self::PageSize { store, platform } => write!(
                f,
                "the store has pages of {store} bytes, but the platform rewrites {platform} at once"
            ),
            Self::InvalidName { len, position: None } => {
                write!(f, "a region's name has 1 to 1,024 bytes, this one has {len}")
            }
            Self::InvalidName { position: Some(at), .. } => {
                write!(
                    f,
                    "a region's name has no control characters, this one has one at byte {at}"
                )
            }
            Self::RegionExists { name } => write!(f, "a region named {name:?} exists already"),
            Self::NoRegion { name } => write!(f, "there is no region named {name:?}"),
            Self::RegionRemoved { id } => write!(f, "region {id} was removed"),
            Self::OutOfRange { id, offset, len, region_len } => write!(
                f,
                "{len} bytes at offset {offset} do not lie inside region {id}, which has \
                 {region_len} bytes"
            ),
            Self::TooLarge { what, requested, limit } => {
                write!(f, "{what}: {requested} is more than the limit of {limit}")
            }
            Self::AppenderActive { id } => {
                write!(f, "an appender holds region {id}; drop it first")
            }
            Self::HoldActive => f.write_str(
                "this thread holds the cut open; flush through the hold, or drop it first",
            ),
            Self::OutOfMemory { requested } => write!(f, "{requested} bytes are not to be had"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Platform(e) | Self::Poisoned { cause: e } => Some(e),
            _ => None,
        }
    }
}

impl From<PlatformError> for Error {
    fn from(error: PlatformError) -> Self {
        Self::Platform(error)
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// The result of a call to the store.
pub type Result<T, E = Error> = core::result::Result<T, E>;

#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match &error {
            Error::Platform(e) | Error::Poisoned { cause: e } => match e.kind {
                PlatformErrorKind::NoSpace => K::StorageFull,
                PlatformErrorKind::Locked => K::ResourceBusy,
                PlatformErrorKind::NotFound => K::NotFound,
                PlatformErrorKind::AlreadyExists => K::AlreadyExists,
                PlatformErrorKind::PermissionDenied => K::PermissionDenied,
                PlatformErrorKind::ReadOnly => K::ReadOnlyFilesystem,
                PlatformErrorKind::UnexpectedEnd => K::UnexpectedEof,
                PlatformErrorKind::Unsupported => K::Unsupported,
                _ => K::Other,
            },
            Error::Damaged(_) | Error::NotAStore { .. } | Error::Newer { .. } => K::InvalidData,
            Error::ReadOnly => K::PermissionDenied,
            Error::OutOfRange { .. } | Error::InvalidName { .. } => K::InvalidInput,
            _ => K::Other,
        };
        Self::new(kind, error)
    }
}
