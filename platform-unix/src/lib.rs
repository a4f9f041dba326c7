//! The Unix platform of allod: one regular file that is locked, read and written by position,
//! mapped for reading, made durable, and punched.
//!
//! [`UnixPlatform`] implements [`Platform`](allod_core::Platform) for Linux, macOS and FreeBSD; it
//! compiles for the other Unix systems, where it cannot punch. On systems that are not Unix this
//! crate is empty.
//!
//! It is not a file system layer: it holds exactly one file, knows nothing of what is in it, and
//! keeps no thread and no cache.
//!
//! ```
//! # #[cfg(unix)] {
//! use allod_core::Platform;
//! use allod_unix::{Access, UnixPlatform};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("store");
//! let platform = UnixPlatform::open(&path, Access::OpenOrCreate)?;
//! platform.write_sync(0, b"durable when this returns")?;
//!
//! // A second writer is told at once that there is a first one.
//! assert!(UnixPlatform::open(&path, Access::OpenExisting).is_err());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(unix)]
mod failure;
#[cfg(unix)]
mod length;
#[cfg(unix)]
mod mapping;
#[cfg(unix)]
mod opening;
#[cfg(unix)]
mod platform;
#[cfg(unix)]
mod system;

#[cfg(unix)]
pub use mapping::UnixMapping;
#[cfg(unix)]
pub use opening::Access;
#[cfg(unix)]
pub use platform::UnixPlatform;
