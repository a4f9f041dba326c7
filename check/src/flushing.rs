//! The driver of what flushes: flushes, held cuts, checkpoints and compactions.

use std::sync::Arc;

use allod_core::{Durability, Error, FlushReport, RegionInfo, Store};

use crate::life::{Go, Life};
use crate::operate::simple;
use crate::rig::Rig;
use crate::step::Step;

impl Life {
    pub(crate) fn flush(
        &self,
        durability: Option<Durability>,
        act: impl FnOnce(&Store<Rig>) -> allod_core::Result<FlushReport>,
    ) -> Go {
        let store = self.store()?;
        let state = {
            let mut cell = self.cell();
            let state = Arc::new(cell.oracle.now.clone());
            cell.oracle.in_flight = Some(state.clone());
            state
        };
        let carried = || store.stats().pages_carried;
        let before = carried();
        let result = act(&store);
        let carried = carried() - before;
        let mut cell = self.cell();
        cell.oracle.in_flight = None;
        match result {
            Ok(report) => {
                let beside = carried > 0 && cell.oracle.confirmed && !cell.readers.is_empty();
                cell.coverage.carried_beside_readers += u64::from(beside);
                let process = durability == Some(Durability::Process);
                cell.oracle.flushed(state, !process);
                cell.coverage.kernel_flushes += u64::from(process && report.bytes > 0);
                match report.syncs {
                    0 if !process => cell.coverage.empty_flushes += 1,
                    1 => cell.coverage.small_flushes += 1,
                    2 => cell.coverage.large_flushes += 1,
                    _ => {}
                }
                cell.coverage.checkpoints += u64::from(report.checkpoint);
                cell.coverage.forced_checkpoints +=
                    u64::from(report.checkpoint && durability.is_some());
                drop(cell);
                self.still_well()
            }
            Err(error) => {
                if matches!(error, Error::Poisoned { .. }) && !cell.poisoned {
                    cell.oracle.may_be_written(state);
                }
                drop(cell);
                self.refused(&error)
            }
        }
    }

    /// Does what flushes as it goes, and what nobody sees else. `acknowledges` says whether the
    /// state at the beginning is durable when it returns.
    pub(crate) fn compact<T>(
        &self,
        acknowledges: bool,
        act: impl FnOnce(&Store<Rig>) -> allod_core::Result<T>,
    ) -> Go<Option<T>> {
        let store = self.store()?;
        let state = {
            let mut cell = self.cell();
            let state = Arc::new(cell.oracle.now.clone());
            cell.oracle.in_flight = Some(state.clone());
            state
        };
        self.cell().compacting = true;
        let before = store.regions();
        let result = act(&store);
        let after = store.regions();
        let mut cell = self.cell();
        cell.compacting = false;
        cell.oracle.in_flight = None;
        match result {
            Ok(answer) => {
                cell.coverage.compactions += 1;
                cell.coverage.trims += trims(&before, &after);
                if acknowledges {
                    cell.oracle.flushed(state, true);
                } else {
                    cell.oracle.may_be_written(state);
                }
                drop(cell);
                self.still_well()?;
                Ok(Some(answer))
            }
            Err(error) => {
                if !cell.poisoned {
                    cell.oracle.may_be_written(state);
                }
                drop(cell);
                self.refused(&error)?;
                Ok(None)
            }
        }
    }

    pub(crate) fn compact_step(&self, budget: u32) -> Go {
        let under_way = self.cell().compaction.take();
        let mut compaction = match under_way {
            Some(compaction) => compaction,
            None => match self.compact(true, Store::compaction)? {
                Some(compaction) => compaction,
                None => return Ok(()),
            },
        };
        let progress = self.compact(false, |_| compaction.step(budget.into()))?;
        let done = progress.is_some_and(|progress| progress.done);
        let mut cell = self.cell();
        if !done {
            cell.compaction = Some(compaction);
        }
        if let Some(progress) = progress {
            cell.coverage.count(&progress);
        }
        Ok(())
    }

    /// Holds the cut open during some steps, then flushes.
    pub(crate) fn hold(self: &Arc<Self>, steps: &[Step]) -> Go {
        let store = self.store()?;
        let hold = match store.hold() {
            Ok(hold) => hold,
            Err(error) => return self.refused(&error),
        };
        for step in steps.iter().filter(|step| simple(&step.op)) {
            self.step(step)?;
        }
        match store.flush() {
            Err(Error::HoldActive) => {}
            other => {
                return Err(self.violate(format!("a flush while the cut is held: {other:?}")));
            }
        }
        self.cell().coverage.held_flushes += 1;
        self.flush(Some(Durability::Sync), |_| hold.flush())
    }
}

/// How many regions have less room at the same place.
fn trims(before: &[RegionInfo], after: &[RegionInfo]) -> u64 {
    let trimmed = |old: &&RegionInfo| {
        let now = after.iter().find(|now| now.id == old.id);
        now.is_some_and(|now| now.start == old.start && now.capacity < old.capacity)
    };
    before.iter().filter(trimmed).count() as u64
}
