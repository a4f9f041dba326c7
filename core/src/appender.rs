//! Appenders: one caller that adds many small pieces to one region.

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::region::Region;

/// Exclusive use of a region's end, for many small appends.
///
/// Made by [`Region::appender`]. While it lives, nobody else can change the region's bytes, so that
/// what it appends lies together. Each append is visible, and part of the next flush, when it
/// returns, as with [`Region::append`]. With the feature `std` it is a `std::io::Write`, whose
/// `flush` does nothing: only a flush of the store makes bytes durable.
///
/// ```
/// # let store = allod_core::Options::new().open(allod_mem::MemPlatform::new())?;
/// let mut log = store.create_region("log")?.appender()?;
/// for line in ["a\n", "b\n"] {
///     log.append(line.as_bytes())?;
/// }
/// assert_eq!(log.region().read_all()?, b"a\nb\n");
/// # Ok::<(), allod_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Appender<P: Platform> {
    region: Region<P>,
}

impl<P: Platform> Appender<P> {
    pub(crate) fn new(region: &Region<P>) -> Result<Self> {
        region.inner.ready()?;
        let mut state = region.lock()?;
        let live = state.live(&region.inner.base);
        if live.appender {
            return Err(Error::AppenderActive { id: region.id });
        }
        live.appender = true;
        drop(state);
        Ok(Self { region: region.clone() })
    }

    /// The region.
    pub fn region(&self) -> &Region<P> {
        &self.region
    }

    /// Adds `data` at the end, and answers the offset at which it starts.
    ///
    /// # Errors
    ///
    /// As [`Region::append`].
    #[inline]
    pub fn append(&mut self, data: &[u8]) -> Result<u64> {
        self.region.append_as(true, data)
    }
}

impl<P: Platform> Drop for Appender<P> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.region.lock() {
            state.live(&self.region.inner.base).appender = false;
        }
    }
}

#[cfg(feature = "std")]
impl<P: Platform> std::io::Write for Appender<P> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.append(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
