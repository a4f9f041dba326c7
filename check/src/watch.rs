//! The watcher: called at every call of a store to its platform, it looks at the crash images of the
//! moment, and does what is to be done inside the operation.

use std::sync::Arc;

use allod_mem::{Operation, OperationKind, SimDisk};

use crate::effort::{Depth, Effort};
use crate::generate;
use crate::history::History;
use crate::images;
use crate::judge::Judge;
use crate::life::{Life, Violation};
use crate::locks;
use crate::operate::simple;
use crate::oracle::Shot;
use crate::panics::caught;
use crate::prng::mix;
use crate::step::{Op, Step};

/// The images that were looked at last: the change of the disk, and what was allowed.
#[derive(Default)]
pub(crate) struct Seen {
    operations: u64,
    syncing: bool,
    /// Calls since the last sync.
    calls: u32,
    allowed: Vec<Shot>,
}

/// Whether other operations can be done inside the operation.
pub(crate) fn has_inside(op: &Op) -> bool {
    matches!(op, Op::Flush(_) | Op::Checkpoint | Op::CompactStep(_))
}

impl Life {
    pub(crate) fn observe(self: &Arc<Self>, disk: &SimDisk, operation: &Operation) {
        let doomed = {
            let mut cell = self.cell();
            cell.calls += 1;
            cell.coverage.calls += 1;
            cell.strike(disk);
            cell.saved.is_some() || cell.violation.is_some()
        };
        if doomed {
            return;
        }
        if self.cell().step >= self.effort.from {
            self.look_at_images(disk, operation);
        }
        self.interfere(operation);
    }

    /// Looks at the crash images of the moment.
    fn look_at_images(self: &Arc<Self>, disk: &SimDisk, operation: &Operation) {
        let (allowed, making, seed, repeated, calls) = {
            let mut cell = self.cell();
            let seed = mix(cell.salt.into(), cell.calls.into());
            let allowed = cell.allowed();
            let repeated = cell.seen.repeats(disk, operation, &allowed);
            (allowed, cell.making, seed, repeated, cell.seen.calls)
        };
        let choice = images::choose(disk, &self.effort, seed, calls);
        let mut judge = Judge {
            setting: self.setting(),
            allowed: &allowed,
            making,
            depth: self.effort.depth,
            thorough: false,
        };
        let (mut states, mut verified) = (0, 0);
        for (number, image) in choice.images(repeated).enumerate() {
            let Some(after) = choice.make(disk, image) else { continue };
            states += 1;
            let lot = mix(seed, number as u64);
            judge.thorough = once_in(lot, self.effort.verify_once_in);
            verified += u64::from(judge.thorough);
            let branches = once_in(lot, self.effort.branch_once_in);
            // Who works on has to know exactly what there is.
            let exact = judge.thorough || branches;
            judge.depth = if exact { Depth::Bytes } else { self.effort.depth };
            let failed = match judge.judge(&after) {
                Err(what) => Some((what, Vec::new())),
                Ok(Some(state)) if branches => {
                    self.cell().coverage.branches += 1;
                    self.branch(after, state, lot)
                }
                Ok(_) => None,
            };
            if let Some((what, steps)) = failed {
                let mut cell = self.cell();
                let history = self.cut_short(&cell, Some(image), &steps);
                let call = Some((cell.calls, operation.to_string()));
                let step = cell.step;
                let image = Some(image);
                cell.violation.get_or_insert(Violation { what, step, call, image, history });
                break;
            }
        }
        let mut cell = self.cell();
        cell.coverage.states += states;
        cell.coverage.verified += verified;
    }

    /// Works on after a crash, and looks at the crashes of that.
    fn branch(&self, disk: SimDisk, state: Shot, lot: u64) -> Option<(String, Vec<Step>)> {
        let mut oracle = self.cell().oracle.clone();
        oracle.reopened(state, true);
        disk.set_capacity(None);
        let steps = generate::after_crash(lot);
        let history = History { steps, ..self.history.clone() };
        let samples = self.effort.samples.min(4);
        let effort = Effort { samples, branch_once_in: 0, from: 0, ..self.effort };
        let outcome = Life::new(history, disk, oracle, effort).live(false);
        self.cell().coverage.add(&crate::Coverage { histories: 0, ..outcome.coverage });
        let Violation { what, history, .. } = outcome.violation?;
        Some((what, history.steps))
    }

    /// Does what is to be done inside an operation.
    ///
    /// Flushes and compactions hold few locks while they call the platform: their own, and now and
    /// then the one that writes to a region's places take. What would wait for that is left out; it
    /// notices before it has changed anything.
    fn interfere(self: &Arc<Self>, operation: &Operation) {
        let (steps, compacting) = {
            let mut cell = self.cell();
            let due = cell.inside.as_ref().is_some_and(|(call, _)| cell.calls > *call);
            let kind = operation.kind();
            let moment = [OperationKind::Write, OperationKind::WriteSync, OperationKind::Sync];
            if !due || !moment.contains(&kind) {
                return;
            }
            (cell.inside.take().map(|(_, steps)| steps), cell.compacting)
        };
        for step in steps.into_iter().flatten().filter(|step| simple(&step.op)) {
            match caught(|| self.step(&step)) {
                Ok(Ok(())) => {
                    let mut cell = self.cell();
                    cell.coverage.inside += u64::from(!compacting);
                    cell.coverage.inside_compactions += u64::from(compacting);
                }
                Ok(Err(_)) => return,
                Err(panic) if panic.contains(locks::WOULD_WAIT) => {}
                Err(panic) => {
                    self.violate(panic);
                    return;
                }
            }
        }
        if compacting {
            // The flush that ends the step may have made its cut before all this, or will after.
            let oracle = &mut self.cell().oracle;
            let after = Arc::new(oracle.now.clone());
            if let Some(before) = oracle.in_flight.clone() {
                oracle.may_be_written(before);
            }
            oracle.may_be_written(after);
        }
    }
}

fn once_in(lot: u64, n: u64) -> bool {
    n > 0 && lot % n == 0
}

impl Seen {
    /// Whether the moment has the images of the one before, and the same states are allowed: so it
    /// is when a sync is told of, before it takes effect, after the call before it was looked at.
    fn repeats(&mut self, disk: &SimDisk, operation: &Operation, allowed: &[Shot]) -> bool {
        let sync = operation.kind() == OperationKind::Sync;
        let before = sync && !self.syncing;
        let operations = disk.operations();
        let repeats = before
            && operations == self.operations + 1
            && allowed.len() == self.allowed.len()
            && allowed.iter().zip(&self.allowed).all(|(a, b)| Arc::ptr_eq(a, b));
        self.calls = match (sync, before) {
            (false, _) => self.calls + 1,
            (true, true) => self.calls,
            (true, false) => 0,
        };
        self.syncing = before;
        self.operations = operations;
        if !repeats {
            self.allowed = allowed.to_vec();
        }
        repeats
    }
}
