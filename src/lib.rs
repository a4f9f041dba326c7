//! allod is an embedded storage engine: one file holds many named *regions* of bytes that grow,
//! shrink, move and give their space back by themselves, and one call, [`flush`](Store::flush),
//! moves the whole store from one consistent state to the next.
//!
//! # Fifteen lines
//!
#![cfg_attr(unix, doc = "```")]
#![cfg_attr(not(unix), doc = "```ignore")]
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("app.allod");
//! let store = allod::open(&path)?; // made if it is not there
//! let users = store.region_or_create("users")?;
//! let log = store.region_or_create("log")?;
//!
//! users.append(b"alice\n")?;
//! log.append(b"alice came\n")?;
//! store.flush()?; // both, or neither, whatever happens
//!
//! let before = log.reader()?; // a snapshot, without a copy
//! log.append(b"alice left\n")?;
//! log.write_at(0, b"ALICE")?;
//! assert_eq!(&*before.read_all()?, b"alice came\n");
//! assert_eq!(log.read_all()?, b"ALICE came\nalice left\n");
//!
//! store.close()?; // flushes; dropping does not
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to expect
//!
//! * After a crash at any instant, opening gives the state of the last flush that returned, or of
//!   the one under way: all regions together, every byte of them.
//! * A [`Reader`] is a snapshot of one region for as long as it lives. It blocks nobody, and nobody
//!   blocks it.
//! * A full device, a failed read or a damaged file is an [`Error`], never a panic or a signal. A
//!   failed sync [poisons](Error::Poisoned) the store: reopening it recovers what the device holds.
//! * Space comes back, online: see [`compact`](Store::compact) and [`disk_usage`](Store::disk_usage).
//!
//! It is not a database: it has no keys, no types and no transactions. Those can be built upon it.
//!
//! # What is in here
//!
//! This crate is a facade. It shows everything of `allod_core`, which is `no_std` and generic over
//! the [`Platform`] below it, and picks the platform:
//!
//! | | |
//! |---|---|
//! | [`open`], [`open_read_only`], [`open_with`], [`FileStore`] | a store in a file, on Unix |
//! | [`memory`], [`MemoryStore`] | a store in plain memory, everywhere |
//! | [`unix`] | the file platform itself, on Unix |
//! | [`mem`] | the memory platforms: plain, mapped, and a simulated disk for tests, with crashes |
//!
//! Any other platform is opened with [`Options::open`].
#![forbid(unsafe_code)]

pub use allod_core::*;
/// The memory platforms: plain memory, memory that maps, and a disk that crashes on demand.
pub use allod_mem as mem;
/// The platform of Linux, macOS and FreeBSD: one regular file.
#[cfg(unix)]
pub use allod_unix as unix;

#[cfg(unix)]
mod file;

#[cfg(unix)]
pub use file::{FileStore, open, open_read_only, open_with};

/// A store in plain memory.
pub type MemoryStore = Store<mem::MemPlatform>;

/// A new, empty store in plain memory. It is gone when the last handle of it is.
///
/// For tests, and for what needs to live no longer than the program. Everything works as with a
/// file, but that readers copy: plain memory has no map.
///
/// ```
/// let store = allod::memory();
/// store.create_region("scratch")?.append(b"short-lived")?;
/// # Ok::<(), allod::Error>(())
/// ```
pub fn memory() -> MemoryStore {
    match Options::new().open(mem::MemPlatform::new()) {
        Ok(store) => store,
        // Plain memory without a limit fails in nothing.
        Err(error) => unreachable!("a store in memory cannot be made: {error}"),
    }
}

/// The programs of the README are tested as those of this page are.
#[cfg(all(doctest, unix))]
#[doc = include_str!("../README.md")]
struct Readme;
