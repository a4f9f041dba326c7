//! A read-only, shared view of the file, which may reach beyond its end and keeps the lock.
//!
//! It is not a way to write: no page of it is ever writable, so no stray pointer can reach the
//! file, and a full disk is an error of a write instead of a signal.

use std::fmt;
use std::sync::Arc;

use allod_core::platform::Mapping;
use memmap2::{Mmap, MmapOptions};
use rustix::io::Errno;

use crate::failure::errno;
use crate::platform::Held;

/// Lengths are rounded up to this: no page of memory on any supported machine is larger, so that
/// the rounding costs nothing but address space.
const GRAIN: u64 = 64 * 1024;

/// The largest view where addresses have 32 bits. A larger one would leave no room for the next,
/// which has to exist beside it while readers of the first live.
const NARROW: u64 = 1 << 30;

/// A view of the file of a [`UnixPlatform`](crate::UnixPlatform).
///
/// It holds the open file, and with it the lock, for as long as it lives: what an old reader maps
/// is never changed by another writer.
///
/// A device that fails to read a page, and another program that shortens the file in spite of the
/// lock, make the system raise `SIGBUS` in whoever touches that page. A full disk does not: pages
/// are never written through the view.
pub struct UnixMapping {
    // Dropped in this order: the view goes before the lock does.
    view: Mmap,
    held: Arc<Held>,
}

impl UnixMapping {
    /// Maps at least `len` bytes; `None` where there is no room, or no way to map this file.
    pub(crate) fn new(held: &Arc<Held>, len: u64) -> Result<Option<Self>, Errno> {
        // OpenBSD keeps written and mapped bytes apart: a view would not show what was written.
        if cfg!(target_os = "openbsd") {
            return Ok(None);
        }
        let Some(len) = len.max(1).checked_next_multiple_of(GRAIN) else { return Ok(None) };
        if usize::BITS < 64 && len > NARROW {
            return Ok(None);
        }
        let Ok(len) = usize::try_from(len) else { return Ok(None) };
        if isize::try_from(len).is_err() {
            return Ok(None);
        }
        // SAFETY: the view is never turned into a slice here, only into an address (see
        // `Mapping` below), so that nothing is assumed of its bytes: neither that they stay, nor
        // that they exist past the end of the file.
        match unsafe { MmapOptions::new().len(len).map(&held.file) } {
            Ok(view) => Ok(Some(Self { view, held: Arc::clone(held) })),
            Err(error) => match errno(&error) {
                // No address space or too many views; memory is locked; the file system does not
                // map; the range does not fit the address space.
                Errno::NOMEM | Errno::AGAIN | Errno::NODEV | Errno::OVERFLOW | Errno::INVAL => {
                    Ok(None)
                }
                number => Err(number),
            },
        }
    }
}

// SAFETY: `view` is one mapping whose address and length are constant until it is dropped, wherever
// the value moves. It is shared and of the file itself, so it shows what `pwrite` puts there, and
// growing the file, or mapping it again, does not touch it. Every byte below the length of the file
// is readable: the lock that `held` keeps is the promise that only this platform changes the length,
// and `Platform::cut` is only called for bytes that no reader maps (I10).
unsafe impl Mapping for UnixMapping {
    fn as_ptr(&self) -> *const u8 {
        self.view.as_ptr()
    }

    fn len(&self) -> usize {
        self.view.len()
    }
}

impl fmt::Debug for UnixMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixMapping")
            .field("path", &self.held.path)
            .field("len", &self.view.len())
            .finish()
    }
}
