//! Verification: reading everything that a store names, and comparing it with what the store
//! believes.

use alloc::vec::Vec;

use crate::error::{Damage, Error, Result};
use crate::platform::Platform;
use crate::recovery;
use crate::run::{FIRST_PAGE, Run};
use crate::store::Store;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, where, expected and found.
    pub damage: Damage,
}

/// What [`Store::verify`] looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Everything that is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
    /// Regions whose bytes were read.
    pub regions: u64,
    /// Valid batches in the journal.
    pub batches: u64,
    /// Bytes of regions that were read.
    pub bytes: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, what: &'static str, region: Option<u64>, at: u64, expected: u64, found: u64) {
        let damage = Damage { what, region, offset: at, expected, found };
        self.findings.push(Finding { damage });
    }
}

impl<P: Platform> Store<P> {
    /// Checks the whole store: superblocks, checkpoint and journal are read again and must say what
    /// the store believes; regions, holes, retired space and metadata must divide the file among
    /// them without gap or overlap (that part is left out while others write); every byte of every
    /// region must be readable.
    ///
    /// The bytes of regions carry no checksums, so that a change in them is not found here. Changes
    /// nothing. Flushes wait while the metadata is read.
    ///
    /// # Errors
    ///
    /// [`Error::Platform`] if something cannot be read. What is damaged is a finding, not an error.
    pub fn verify(&self) -> Result<Verification> {
        let mut result = Verification::default();
        self.verify_metadata(&mut result)?;
        for info in self.regions() {
            let Some(region) = self.region(&info.name) else { continue };
            let Ok(reader) = region.reader() else { continue };
            result.regions += 1;
            for chunk in reader.chunks(0, reader.len())? {
                // Every page is touched, so that an unreadable one is an error here.
                let chunk = chunk?;
                let sum: u64 = chunk.iter().step_by(512).map(|byte| u64::from(*byte)).sum();
                core::hint::black_box(sum);
                result.bytes += chunk.len() as u64;
            }
        }
        Ok(result)
    }

    fn verify_metadata(&self, result: &mut Verification) -> Result<()> {
        let inner = self.inner();
        let base = &inner.base;
        let flusher = inner.flusher.lock();
        match recovery::recover(&base.platform) {
            Ok(recovered) => {
                result.batches = recovered.sequence;
                let slot = base.page_offset(recovered.slot);
                let journal = base.page_offset(flusher.journal.start);
                if recovered.superblock.generation != flusher.generation {
                    let found = recovered.superblock.generation;
                    result.add("generation", None, slot, flusher.generation, found);
                } else if recovered.sequence != flusher.sequence {
                    let found = recovered.sequence;
                    result.add("number of batches", None, journal, flusher.sequence, found);
                }
            }
            Err(Error::Damaged(damage)) => result.findings.push(Finding { damage }),
            Err(Error::NotAStore { len, found }) => {
                result.add("superblock", None, 0, len, u64::from_le_bytes(found));
            }
            Err(Error::Newer { version, supported, .. }) => {
                result.add("format version", None, 0, supported.into(), version.into());
            }
            Err(Error::Unfinished) => result.add("superblock", None, 0, 1, 0),
            Err(error) => return Err(error),
        }
        if flusher.unconfirmed.is_some() {
            return Ok(());
        }
        // I6, I7: each page of the file has one owner.
        let changes = inner.ground.lock().changes;
        let (mut owned, ..) = inner.runs();
        owned.extend([Run { start: 0, pages: FIRST_PAGE }, flusher.checkpoint, flusher.journal]);
        let (end, now, in_transit) = {
            let ground = inner.ground.lock();
            owned.extend(ground.space.holes());
            owned.extend(ground.retirement.iter().map(|retired| retired.run));
            (ground.space.end(), ground.changes, ground.in_transit)
        };
        if now != changes || in_transit > 0 {
            return Ok(());
        }
        owned.sort_unstable_by_key(|run| run.start);
        let mut next = 0;
        for run in owned {
            if run.start != next {
                let at = base.page_offset(run.start.min(next));
                result.add("owner of a page", None, at, next, run.start);
            }
            next = next.max(run.end());
        }
        if next != end {
            result.add("end of the space in use", None, base.page_offset(next), end, next);
        }
        Ok(())
    }
}
