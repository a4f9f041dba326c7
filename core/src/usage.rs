//! Looking inside: where the bytes of the file go, and what the store has done since it was opened.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::platform::Platform;
use crate::run::{FIRST_PAGE, Run};
use crate::store::{Inner, Store};

/// Where the bytes of a store are. All numbers but the counts are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The length of the file.
    pub file_len: u64,
    /// The lengths of all regions together.
    pub live: u64,
    /// Room in the regions' extents that they do not use: the rest of the last page, and room to
    /// grow. On platforms with sparse files most of it takes no space.
    pub reserved: u64,
    /// Free space, below the end of what is used and behind it.
    pub holes: u64,
    /// How many holes there are below the end of what is used.
    pub hole_count: u64,
    /// The largest of them.
    pub largest_hole: u64,
    /// Space that regions have left and that must keep its bytes for now: until the next flush, the
    /// next checkpoint, or the end of a reader.
    pub retired: u64,
    /// Superblocks, checkpoint and journal.
    pub metadata: u64,
    /// What the machine says the file really takes, where it can tell.
    pub allocated: Option<u64>,
}

/// What a store has done since it was opened, and what it holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Regions.
    pub regions: u64,
    /// The generation of the store: how many checkpoints it has had in its life.
    pub generation: u64,
    /// Bytes of the journal that hold batches, and how many it can hold before a checkpoint.
    pub journal_used: u64,
    /// See [`journal_used`](Self::journal_used).
    pub journal_len: u64,
    /// Bytes in memory that are not in place yet: tails and pages.
    pub memory: u64,
    /// Bytes in memory for the table of names.
    pub table_memory: u64,
    /// Flushes that wrote something.
    pub flushes: u64,
    /// Calls of flush that another thread's flush served.
    pub shared_flushes: u64,
    /// Flushes that wrote a checkpoint.
    pub checkpoints: u64,
    /// Syncs.
    pub syncs: u64,
    /// Flushes that failed and can be tried again.
    pub failed_flushes: u64,
    /// Regions copied to another place, to grow or by compaction.
    pub relocations: u64,
    /// Pages written to their places from memory after a flush had made them durable.
    pub pages_put: u64,
    /// Pages carried over in checkpoints, because a reader looks at their places or because they
    /// changed too late to be put there.
    pub pages_carried: u64,
}

/// Counts of events. They wrap, and are exact only when nobody counts at the same time.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicUsize,
    pub(crate) shared_flushes: AtomicUsize,
    pub(crate) checkpoints: AtomicUsize,
    pub(crate) syncs: AtomicUsize,
    pub(crate) failed_flushes: AtomicUsize,
    pub(crate) relocations: AtomicUsize,
    pub(crate) pages_put: AtomicUsize,
    pub(crate) pages_carried: AtomicUsize,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicUsize, n: usize) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

impl<P: Platform> Inner<P> {
    /// The runs of all regions, ascending, and the sum of their lengths and of what their runs have
    /// beyond them.
    pub(crate) fn runs(&self) -> (Vec<Run>, u64, u64) {
        let slots = self.table.read().slots();
        let (mut runs, mut live, mut reserved) = (Vec::new(), 0, 0);
        for index in 0..slots {
            let Some(slot) = self.slots.get(index) else { continue };
            let state = slot.lock();
            live += state.len;
            reserved += self.base.page_offset(state.run.pages).saturating_sub(state.len);
            if !state.run.is_empty() {
                runs.push(state.run);
            }
        }
        runs.sort_unstable_by_key(|run| run.start);
        (runs, live, reserved)
    }
}

impl<P: Platform> Store<P> {
    /// Where the bytes of the store are. Costs a lock of every region, and is exact only when nobody
    /// writes.
    ///
    /// # Errors
    ///
    /// [`Error::Platform`](crate::Error::Platform) if the machine cannot tell the length.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let inner = self.inner();
        let base = &inner.base;
        let flusher = inner.flusher.lock();
        let (mut used, live, reserved) = inner.runs();
        let mut usage = DiskUsage {
            file_len: base.platform.len()?,
            live,
            reserved,
            metadata: base
                .page_offset(FIRST_PAGE + flusher.checkpoint.pages + flusher.journal.pages),
            allocated: base.platform.allocated()?,
            ..DiskUsage::default()
        };
        let end = if flusher.unconfirmed.is_some() {
            // Nothing is free yet in the sense of the store, but a person wants to know.
            used.extend([flusher.checkpoint, flusher.journal]);
            used.sort_unstable_by_key(|run| run.start);
            let mut end = FIRST_PAGE;
            for run in used {
                if run.start > end {
                    usage.hole_count += 1;
                    usage.holes += base.page_offset(run.start - end);
                    usage.largest_hole = usage.largest_hole.max(base.page_offset(run.start - end));
                }
                end = end.max(run.end());
            }
            end
        } else {
            let ground = inner.ground.lock();
            usage.holes = base.page_offset(ground.space.free_pages());
            usage.hole_count = ground.space.hole_count() as u64;
            usage.largest_hole = base.page_offset(ground.space.largest_hole());
            usage.retired = base.page_offset(ground.retirement.pages());
            ground.space.end()
        };
        usage.holes += usage.file_len.saturating_sub(base.page_offset(end));
        Ok(usage)
    }

    /// What the store has done since it was opened, and what it holds in memory.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
        let (generation, used, len) = {
            let flusher = inner.flusher.lock();
            (flusher.generation, flusher.used, flusher.journal.pages)
        };
        let counters = &inner.counters;
        Stats {
            regions: self.len() as u64,
            generation,
            journal_used: inner.base.page_offset(used),
            journal_len: inner.base.page_offset(len),
            memory: inner.base.memory() as u64,
            table_memory: inner.table.read().memory() as u64,
            flushes: count(&counters.flushes),
            shared_flushes: count(&counters.shared_flushes),
            checkpoints: count(&counters.checkpoints),
            syncs: count(&counters.syncs),
            failed_flushes: count(&counters.failed_flushes),
            relocations: count(&counters.relocations),
            pages_put: count(&counters.pages_put),
            pages_carried: count(&counters.pages_carried),
        }
    }
}
