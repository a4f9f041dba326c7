//! Compaction: giving space back to the machine while readers and writers go on.
//!
//! The regions at the end of the file move down into holes (moving a small region costs a tenth of
//! punching a small hole), unused room of the others becomes free, the holes that stay are punched
//! out, and the file is cut behind the last thing in use. All of it in steps: each ends with a
//! flush, so that what was moved is durable before its old place is given up (F7).

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::flush::{Durability, Request};
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::region::Region;
use crate::run::Run;
use crate::state::Changed;
use crate::store::{Inner, Store};

/// How much a step of [`Store::compact`] moves, in bytes.
const STEP: u64 = 8 << 20;

/// How often the regions are gone through at most. Regions that move away leave room for larger ones
/// that had none the first time.
const PASSES: u32 = 8;
/// Another pass is made only if the last one made the file shorter by one part in so many.
const WORTHWHILE: u64 = 50;
/// How many checkpoints sink the metadata: the first frees what waits for one, but must put the new
/// generation beside the old one; the next can use what the first has freed.
const SINKS: u32 = 3;

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactProgress {
    /// Regions moved down; one that moved twice counts twice.
    pub moved_regions: u64,
    /// Bytes copied for that.
    pub moved_bytes: u64,
    /// Bytes of holes given back to the machine.
    pub punched_bytes: u64,
    /// Bytes that the file became shorter.
    pub cut_bytes: u64,
    /// How many regions were looked at, of how many that have to be, as far as is known: there may
    /// be further passes.
    pub visited_regions: u64,
    /// See [`visited_regions`](Self::visited_regions).
    pub regions: u64,
    /// Whether there is nothing more to do.
    pub done: bool,
}

/// A compaction under way, for those who want to make each step themselves; see
/// [`Store::compaction`]. Dropping it between steps loses nothing.
#[derive(Debug)]
pub struct Compaction<P: Platform> {
    store: Store<P>,
    /// Regions still to be looked at, the lowest first: the highest are taken from the end.
    todo: Vec<Region<P>>,
    stage: Stage,
    passes: u32,
    /// Where the space in use ended when this pass began, in pages.
    end: u64,
    progress: CompactProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Move,
    Metadata,
    Punch,
    Done,
}

impl<P: Platform> Store<P> {
    /// Gives as much space back to the machine as can be had, in steps of 8 MiB.
    ///
    /// Flushes. Readers and writers go on. A crash in the middle loses nothing.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush); [`Error::ReadOnly`].
    pub fn compact(&self) -> Result<CompactProgress> {
        self.compact_with(STEP, |_| ControlFlow::Continue(()))
    }

    /// As [`compact`](Self::compact), in steps of about `step_bytes`, telling `progress` after each
    /// how far it came. It can break off there.
    ///
    /// # Errors
    ///
    /// As [`compact`](Self::compact).
    pub fn compact_with(
        &self,
        step_bytes: u64,
        mut progress: impl FnMut(&CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactProgress> {
        let mut compaction = self.compaction()?;
        loop {
            let now = compaction.step(step_bytes)?;
            if progress(&now).is_break() || now.done {
                return Ok(now);
            }
        }
    }

    /// Begins a compaction, to be made step by step. Flushes.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush); [`Error::ReadOnly`].
    pub fn compaction(&self) -> Result<Compaction<P>> {
        let inner = self.inner();
        inner.ready()?;
        self.flush()?;
        let mut compaction = Compaction {
            store: self.clone(),
            todo: Vec::new(),
            stage: Stage::Move,
            passes: 0,
            end: 0,
            progress: CompactProgress::default(),
        };
        compaction.begin_pass();
        Ok(compaction)
    }
}

impl<P: Platform> Compaction<P> {
    fn begin_pass(&mut self) {
        let inner = self.store.inner();
        let slots = inner.table.read().slots();
        let mut todo: Vec<(u64, Region<P>)> = Vec::new();
        for index in 0..slots {
            let Some(slot) = inner.slots.get(index) else { continue };
            let state = slot.lock();
            if state.id != 0 && !state.run.is_empty() {
                let region = Region { inner: inner.clone(), index, id: state.id };
                todo.push((state.run.start, region));
            }
        }
        todo.sort_unstable_by_key(|(start, _)| *start);
        self.end = inner.ground.lock().space.end();
        self.todo = todo.into_iter().map(|(_, region)| region).collect();
        self.progress.regions += self.todo.len() as u64;
        self.passes += 1;
    }

    /// Whether going through the regions once more promises anything.
    fn wants_another_pass(&self) -> bool {
        let ground = self.store.inner().ground.lock();
        self.passes < PASSES && self.end - ground.space.end().min(self.end) > self.end / WORTHWHILE
    }

    /// Goes on until about `budget_bytes` were moved or punched, flushes, and answers how far it
    /// came in all. A region is moved as a whole, so that a larger one passes the budget.
    ///
    /// # Errors
    ///
    /// As [`Store::compact`]. The step can be tried again.
    pub fn step(&mut self, budget_bytes: u64) -> Result<CompactProgress> {
        let store = self.store.clone();
        let inner = &**store.inner();
        inner.ready()?;
        match self.stage {
            Stage::Move => {
                let mut moved = 0;
                while moved <= budget_bytes {
                    let Some(region) = self.todo.pop() else { break };
                    let result = region.move_down();
                    if result.is_err() {
                        self.todo.push(region);
                    }
                    let bytes = result?;
                    self.progress.visited_regions += 1;
                    if let Some(bytes) = bytes {
                        self.progress.moved_regions += 1;
                        self.progress.moved_bytes += bytes;
                        moved += bytes.max(inner.base.page_size());
                    }
                }
                inner.flush(Durability::Sync)?;
                if self.todo.is_empty() && self.wants_another_pass() {
                    self.begin_pass();
                } else if self.todo.is_empty() {
                    self.stage = Stage::Metadata;
                }
            }
            Stage::Metadata => {
                for _ in 0..SINKS {
                    if inner.metadata_could_sink() {
                        inner.flush_as(Request::Checkpoint, None)?;
                    }
                }
                self.progress.cut_bytes += inner.cut_file()?;
                self.stage = Stage::Punch;
            }
            Stage::Punch => {
                let (bytes, all) = inner.punch_holes(budget_bytes)?;
                self.progress.punched_bytes += bytes;
                if all {
                    self.stage = Stage::Done;
                }
            }
            Stage::Done => {}
        }
        self.progress.done = self.stage == Stage::Done;
        Ok(self.progress)
    }
}

impl<P: Platform> Region<P> {
    /// Moves the region into the lowest hole below it, and else gives back the room that it does
    /// not use. Answers how many bytes were copied, if it moved.
    fn move_down(&self) -> Result<Option<u64>> {
        let inner = &*self.inner;
        let base = &inner.base;
        let io = match self.lock() {
            Ok(mut state) => state.live(base).io.clone(),
            Err(_removed) => return Ok(None),
        };
        let _io = io.lock();
        let Ok(mut state) = self.lock() else { return Ok(None) };
        let run = state.run;
        let need = base.pages(state.len);
        if run.is_empty() {
            inner.rest(&mut state);
            return Ok(None);
        }
        if need > 0 {
            if let Some(target) = inner.allocate_below(need, run.start) {
                return match self.relocate(state, need, Some(target)) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(Error::RegionRemoved { .. }) => Ok(None),
                    Err(error) => Err(error),
                };
            }
        }
        if need < run.pages && state.live(base).is_unwatched() {
            inner.touch(self.index, &mut state);
            self.trim(state, need);
        } else {
            inner.rest(&mut state);
        }
        Ok(None)
    }

    /// Gives back what the extent has beyond `pages`. The caller has seen that nobody is left who
    /// might look at what is given back.
    fn trim(&self, mut state: crate::region::Guard<'_, P>, pages: u64) {
        let inner = &*self.inner;
        let run = state.run;
        let given = Run { start: run.start + pages, pages: run.pages - pages };
        state.run.pages = pages;
        let live = state.live(&inner.base);
        live.invalidate_snap();
        live.changed.add(Changed::RUN);
        live.limit = 0;
        let left = live.epoch;
        if pages == 0 {
            state.run = Run::default();
            let live = state.live(&inner.base);
            live.leave_extent();
            if let Some(extent) = live.extent.take() {
                inner.retire(given, extent, left, false);
            }
        } else if let Some(extent) = live.extent.clone() {
            inner.retire(given, extent, left, true);
        }
    }
}

impl<P: Platform> Inner<P> {
    /// Whether a checkpoint would free space, or move the checkpoint and the journal down.
    fn metadata_could_sink(&self) -> bool {
        let (checkpoint, journal) = {
            let flusher = self.flusher.lock();
            (flusher.checkpoint, flusher.journal)
        };
        let ground = self.ground.lock();
        if ground.retirement.pages_behind_checkpoint() > 0 {
            return true;
        }
        let end = ground.space.end();
        let largest = ground.space.largest_hole();
        [checkpoint, journal].iter().any(|run| run.end() == end && largest >= run.pages)
    }

    /// Cuts the file behind the last page in use (I10). Answers how much shorter it became.
    fn cut_file(&self) -> Result<u64> {
        self.cut_to(0)
    }

    /// The same, but no shorter than `least` bytes.
    pub(crate) fn cut_to(&self, least: u64) -> Result<u64> {
        let _one_at_a_time = self.growing.lock();
        // Who takes pages past this end from now on waits for us before using them, because the
        // file is not long enough then.
        let (len, end) = {
            let mut ground = self.ground.lock();
            let mut end = self.base.page_offset(ground.space.end());
            if mutant::is(Mutant::CutOverRetired) {
                while let Some(last) = ground
                    .retirement
                    .iter()
                    .find(|last| self.base.page_offset(last.run.end()) == end)
                {
                    end = self.base.page_offset(last.run.start);
                }
            }
            let end = end.max(least);
            let len = ground.file_len;
            ground.file_len = len.min(end);
            (len, end)
        };
        if len <= end {
            return Ok(0);
        }
        self.base.platform.cut(end)?;
        Ok(len - end)
    }

    /// Punches holes, up to about `budget` bytes. Answers how many bytes, and whether none are
    /// left.
    fn punch_holes(&self, budget: u64) -> Result<(u64, bool)> {
        if !self.base.platform.capabilities().punch {
            return Ok((0, true));
        }
        let mut punched = 0;
        while punched <= budget {
            // Taken, so that nobody gets it while it is being punched.
            let Some(taken) = self.take_unpunched() else { return Ok((punched, true)) };
            let hole = taken.run();
            let len = self.base.page_offset(hole.pages);
            if !self.base.platform.punch(self.base.page_offset(hole.start), len)? {
                return Ok((punched, true));
            }
            drop(taken);
            self.ground.lock().space.mark_punched(hole);
            punched += len;
        }
        Ok((punched, false))
    }
}
