//! The length of the file and the limit on it: the one place that changes the length, so that a
//! change that is under way can neither shorten nor lengthen the file by mistake.
//!
//! It is not a cache of the length for readers, who ask the system.
//!
//! # Why writes do not extend the file by themselves
//!
//! `ftruncate` sets a length, so making the file *longer* is "look, then set". If a write extended
//! the file between the two, the set would cut it. Therefore a write that passes the end first grows
//! the file here, under the lock, and then writes inside it, outside the lock: no write waits for
//! another one, and no growth waits for the device.
//!
//! # The limit on file sizes
//!
//! A process with `RLIMIT_FSIZE` that passes it gets `SIGXFSZ`, which kills it unless somebody
//! ignores the signal, and the runtime of Rust does not. So the limit is asked for whenever the file
//! is about to grow, and remembered for the writes in between: what would pass it is `NoSpace`. Only
//! a limit that is lowered below the length of the file while it is open can still raise the signal.

use std::fs::File;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::failure::errno;

/// The largest offset that the system can name.
pub(crate) const LARGEST: u64 = i64::MAX as u64;

#[derive(Debug)]
pub(crate) struct Length {
    /// Held while the length is looked at and changed.
    change: Mutex<()>,
    /// Held for a moment only, never during a call to the system.
    bounds: RwLock<Bounds>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// A length that the file has at least: it was seen, and only [`Length::cut`] lowers it.
    least: u64,
    /// The limit of the process on the size of files when it was last asked for.
    limit: u64,
}

impl Length {
    pub(crate) fn new(file: &File) -> Result<Self, Errno> {
        let bounds = Bounds { least: current(file)?, limit: limit() };
        Ok(Self { change: Mutex::new(()), bounds: RwLock::new(bounds) })
    }

    /// Makes sure that writing up to `end` neither extends the file nor passes the limit.
    pub(crate) fn cover(&self, file: &File, end: u64) -> Result<(), Errno> {
        let bounds = *self.bounds.read();
        if end <= bounds.least && end <= bounds.limit {
            return Ok(());
        }
        self.check_limit(end)?;
        self.grow(file, end)
    }

    /// Makes the file at least `len` bytes long.
    pub(crate) fn grow(&self, file: &File, len: u64) -> Result<(), Errno> {
        let _change = self.change.lock();
        let now = current(file)?;
        if len > now {
            self.check_limit(len)?;
            truncate(file, len)?;
        }
        self.bounds.write().least = now.max(len);
        Ok(())
    }

    /// Asks for the limit anew: the process may have changed it.
    fn check_limit(&self, end: u64) -> Result<(), Errno> {
        let limit = limit();
        self.bounds.write().limit = limit;
        if end > limit || end > LARGEST { Err(Errno::FBIG) } else { Ok(()) }
    }

    /// Makes the file at most `len` bytes long.
    pub(crate) fn cut(&self, file: &File, len: u64) -> Result<(), Errno> {
        let _change = self.change.lock();
        let now = current(file)?;
        if len < now {
            // Before the call, which may fail after having done its work.
            self.bounds.write().least = len;
            truncate(file, len)?;
        }
        Ok(())
    }
}

/// The length that the system tells.
pub(crate) fn current(file: &File) -> Result<u64, Errno> {
    file.metadata().map(|found| found.len()).map_err(|error| errno(&error))
}

fn truncate(file: &File, len: u64) -> Result<(), Errno> {
    loop {
        match rustix::fs::ftruncate(file, len) {
            Err(Errno::INTR) => continue,
            done => return done,
        }
    }
}

/// The limit of the process on the size of files, in bytes.
fn limit() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}
