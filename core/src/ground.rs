//! The file as ground to build on: free pages, retired runs, and a file long enough for both.
//!
//! Wraps [`Space`] with what needs the platform. Its lock is a leaf: nothing else is locked, and
//! no bytes are read or written, while it is held.

use alloc::sync::Arc;

use lock_api::MutexGuard;

use crate::error::{Error, Result};
use crate::extent::{Extent, Retired, Retirement};
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::run::{MAX_PAGES, Run};
use crate::space::Space;
use crate::store::Inner;

/// Extents of this many bytes and more start at multiples of it: the page cache then takes large
/// pieces, which is worth 15 to 35 % on every append (measured on ext4 with large folios).
const ALIGNMENT: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) space: Space,
    pub(crate) retirement: Retirement,
    /// The file's length in bytes, as far as the store has grown it.
    pub(crate) file_len: u64,
    /// Counts what was taken and given back, so that who looks twice knows whether to trust it.
    pub(crate) changes: u64,
    /// Runs that were taken and are nobody's yet.
    pub(crate) in_transit: usize,
}

/// A run that was taken from the ground. Dropped, it goes back there: so an error on the way to its
/// use loses nothing.
#[must_use]
pub(crate) struct Taken<'a, P: Platform> {
    inner: &'a Inner<P>,
    run: Run,
}

impl<P: Platform> Taken<'_, P> {
    pub(crate) fn run(&self) -> Run {
        self.run
    }

    /// Somebody uses the run from now on.
    pub(crate) fn keep(mut self) -> Run {
        self.inner.land().in_transit -= 1;
        core::mem::take(&mut self.run)
    }
}

impl<P: Platform> Drop for Taken<'_, P> {
    fn drop(&mut self) {
        if !self.run.is_empty() {
            self.inner.land().in_transit -= 1;
            self.inner.give_back(self.run);
        }
    }
}

impl<P: Platform> Inner<P> {
    /// The ground, to take from it or to give back.
    fn land(&self) -> MutexGuard<'_, P::RawMutex, Ground> {
        let mut ground = self.ground.lock();
        ground.changes += 1;
        ground
    }

    fn alignment(&self, pages: u64) -> u64 {
        if self.base.page_offset(pages) >= ALIGNMENT {
            self.base.page_of(ALIGNMENT).max(1)
        } else {
            1
        }
    }

    /// Takes a run of free pages and makes the file long enough for it (I8).
    pub(crate) fn allocate(&self, pages: u64) -> Result<Taken<'_, P>> {
        let align = self.alignment(pages);
        let taken = self.take(|space| space.allocate(pages, align)).ok_or_else(|| full(pages))?;
        self.grow_for(taken.run)?;
        Ok(taken)
    }

    fn take(&self, choose: impl FnOnce(&mut Space) -> Option<Run>) -> Option<Taken<'_, P>> {
        let mut ground = self.land();
        let run = choose(&mut ground.space)?;
        ground.in_transit += 1;
        Some(Taken { inner: self, run })
    }

    /// Takes the lowest run of free pages that ends at or below `below`.
    pub(crate) fn allocate_below(&self, pages: u64, below: u64) -> Option<Taken<'_, P>> {
        let align = self.alignment(pages);
        self.take(|space| space.allocate_lowest(pages, align, below))
    }

    /// Takes a whole hole that was not punched yet.
    pub(crate) fn take_unpunched(&self) -> Option<Taken<'_, P>> {
        self.take(|space| {
            let hole = space.unpunched(1).next()?;
            space.extend(hole.start, hole.pages).then_some(hole)
        })
    }

    /// Takes the lowest run of free pages, for what no region appends to: it is not aligned.
    pub(crate) fn allocate_lowest(&self, pages: u64) -> Result<Taken<'_, P>> {
        let lowest = |space: &mut Space| {
            space.allocate_lowest(pages, 1, u64::MAX).or_else(|| space.allocate(pages, 1))
        };
        self.take(lowest).ok_or_else(|| full(pages))
    }

    /// Takes a run for a region that has bytes but no place, while a cut is made and nothing may
    /// fail: the flush grows the file afterwards. The number space of pages is so much larger than
    /// any file that it cannot run out here: 2^48 pages against 2^32 regions without a place, each
    /// with at most a few tails' worth of bytes.
    pub(crate) fn allocate_at_cut(&self, pages: u64) -> Run {
        let align = self.alignment(pages);
        let run = self.land().space.allocate(pages, align);
        assert!(run.is_some(), "I8: the page numbers of the file are exhausted");
        run.unwrap_or_default()
    }

    /// Takes the free pages right behind `run`, so that it becomes `want` pages long, or at least
    /// `need`.
    pub(crate) fn extend(&self, run: Run, need: u64, want: u64) -> Result<Option<Taken<'_, P>>> {
        let taken = self.take(|space| {
            let room = run.pages.saturating_add(space.room_at(run.end()));
            let more = Run { start: run.end(), pages: want.min(room).checked_sub(run.pages)? };
            (room >= need && space.extend(more.start, more.pages)).then_some(more)
        });
        match taken {
            Some(taken) => {
                self.grow_for(taken.run)?;
                Ok(Some(taken))
            }
            None => Ok(None),
        }
    }

    /// Makes a hole of a run that nothing names.
    pub(crate) fn give_back(&self, run: Run) {
        if !run.is_empty() {
            let released = self.land().space.release(run);
            assert!(released, "I6: pages {}..{} are released twice", run.start, run.end());
        }
    }

    /// The region has left a run: it becomes a hole as soon as F7 allows.
    pub(crate) fn retire(&self, run: Run, extent: Arc<Extent>, left: u64, trimmed: bool) {
        if run.is_empty() {
            return;
        }
        let forgotten =
            mutant::is(Mutant::ReleasedEarly) || (trimmed && mutant::is(Mutant::TrimForgotten));
        if forgotten || (!trimmed && !extent.named() && Arc::strong_count(&extent) == 1) {
            // No flush ever named it and nobody looks: it leaves no trace.
            self.give_back(run);
            return;
        }
        self.land().retirement.push(Retired { run, left, extent, trimmed });
    }

    /// Makes holes of the retired runs that F7 allows.
    pub(crate) fn release(&self, durable: u64, checkpoint: u64) {
        let mut ground = self.land();
        for run in ground.retirement.release(durable, checkpoint) {
            let released = ground.space.release(run);
            assert!(released, "I6: pages {}..{} are released twice", run.start, run.end());
        }
    }

    /// Makes the file long enough to hold `run`.
    pub(crate) fn grow_for(&self, run: Run) -> Result<()> {
        self.grow_to(run.end())
    }

    /// Makes the file long enough for everything that is in use.
    pub(crate) fn grow_for_all(&self) -> Result<()> {
        let end = self.ground.lock().space.end();
        self.grow_to(end)
    }

    /// Makes the file at least so many pages long.
    pub(crate) fn grow_to(&self, end: u64) -> Result<()> {
        // In steps, so that a thousand small regions do not mean a thousand calls.
        let step = if self.sparse { ALIGNMENT } else { self.base.page_size() };
        let needed = self.base.page_offset(end);
        let _one_at_a_time = self.growing.lock();
        if self.ground.lock().file_len >= needed {
            return Ok(());
        }
        let len = needed.checked_next_multiple_of(step).unwrap_or(needed);
        self.base.platform.grow(len)?;
        self.ground.lock().file_len = len;
        Ok(())
    }
}

fn full(pages: u64) -> Error {
    Error::TooLarge { what: "pages in one file", requested: pages, limit: MAX_PAGES }
}
