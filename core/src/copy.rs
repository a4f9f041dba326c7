//! A consistent copy of a store on another platform, made while writers go on.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::flush::Request;
use crate::options::{Create, Options};
use crate::platform::Platform;
use crate::reader::Reader;
use crate::store::Store;

/// A region as it was at the cut of a copy.
pub(crate) struct Original<P: Platform> {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) reader: Reader<P>,
}

impl<P: Platform> Store<P> {
    /// Copies the store, as it is at one moment between calls, to an empty platform, and answers the
    /// copy, flushed and open.
    ///
    /// The copy is compact, has an id of its own, and its regions have the names and ids of the
    /// originals. It begins with a checkpoint of this store (unless that is read-only); after that
    /// writers go on while bytes are copied. The space of what they remove comes back when the
    /// copy is finished. A crash while copying leaves an empty store, or an unfinished one, on
    /// `platform`.
    ///
    /// # Errors
    ///
    /// [`Error::StoreExists`] if there is a store on `platform`; [`Error::HoldActive`],
    /// [`Error::Poisoned`], [`Error::Platform`] of either side.
    pub fn copy_to<Q: Platform>(&self, platform: Q) -> Result<Store<Q>> {
        let inner = self.inner();
        let mut originals = Vec::new();
        if inner.is_read_only() {
            for info in self.regions() {
                if let Some(region) = self.region(&info.name) {
                    originals.push(Original {
                        reader: region.reader()?,
                        name: info.name,
                        id: info.id,
                    });
                }
            }
        } else {
            inner.flush_as(Request::Copy, Some(&mut originals))?;
        }
        let copy = Options::new().create(Create::Always).open(platform)?;
        originals.sort_unstable_by_key(|original| original.id);
        for Original { name, id, reader } in originals {
            let region = copy.create_as(&name, Some(id))?;
            region.reserve(reader.len())?;
            let mut appender = region.appender()?;
            for chunk in reader.chunks(0, reader.len())? {
                let chunk = chunk?;
                for piece in chunk.chunks(1 << 20) {
                    appender.append(piece)?;
                }
            }
        }
        let report = copy.flush()?;
        match copy.poisoned() {
            Some(cause) => Err(Error::Poisoned { cause }),
            None => {
                debug_assert!(report.generation > 0);
                Ok(copy)
            }
        }
    }
}
