//! Running a history: a store on a simulated disk, the oracle beside it, and a watcher that looks at
//! the crash images of every call to the platform.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allod_core::{Compaction, Create, Reader, Store};
use allod_mem::{Operation, SimDisk};

use crate::coverage::Coverage;
use crate::effort::{Depth, Effort};
use crate::history::{History, Setting};
use crate::judge::Judge;
use crate::operate::simple;
use crate::oracle::{Oracle, Shot};
use crate::panics::caught;
use crate::rig::{Lie, Rig};
use crate::step::{Image, Op, Step};

/// What a store did that the oracle does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What, in words: what was expected and what was found.
    pub what: String,
    /// At which step.
    pub step: usize,
    /// After which call to the platform of that step, counted as [`Op::CutIn`] does, and which.
    pub call: Option<(u32, String)>,
    /// On which crash image, if on one.
    pub image: Option<Image>,
    /// A history that runs into it without looking at other images.
    pub history: History,
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it reached.
    pub coverage: Coverage,
    /// The first violation.
    pub violation: Option<Violation>,
}

/// Runs a history.
#[must_use]
pub fn run(history: &History, effort: &Effort) -> Outcome {
    let disk = SimDisk::new(history.seed);
    let life = Life::new(history.clone(), disk, Oracle::new(), *effort);
    life.live(true)
}

/// How a life ends before its history does.
pub(crate) enum Death {
    Cut(Image),
    Kill,
}

/// What a death left.
pub(crate) struct Saved {
    pub(crate) disk: SimDisk,
    /// As it was then.
    pub(crate) oracle: Oracle,
    pub(crate) killed: bool,
}

pub(crate) struct Pinned {
    pub(crate) reader: Reader<Rig>,
    pub(crate) bytes: Arc<Vec<u8>>,
}

/// What the driver and the watcher share.
pub(crate) struct Cell {
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) disk: SimDisk,
    pub(crate) store: Option<Store<Rig>>,
    pub(crate) readers: Vec<Pinned>,
    /// The store is being made: a crash may leave none.
    pub(crate) making: bool,
    pub(crate) step: usize,
    /// The step after the last one that belongs to the present one.
    end: usize,
    pub(crate) salt: u32,
    /// Calls to the platform in this step.
    pub(crate) calls: u32,
    /// What was looked at last, so that the same images are not looked at again.
    pub(crate) seen: crate::watch::Seen,
    pub(crate) armed: Option<(u32, Death)>,
    pub(crate) saved: Option<Saved>,
    /// What is to be done inside the present step, after so many calls.
    pub(crate) inside: Option<(u32, Vec<Step>)>,
    pub(crate) compaction: Option<Compaction<Rig>>,
    /// A compaction makes a step.
    pub(crate) compacting: bool,
    /// A sync was told to fail.
    pub(crate) faulty: bool,
    pub(crate) poisoned: bool,
    pub(crate) full: bool,
    deaths: u32,
}

pub(crate) struct Life {
    pub(crate) history: History,
    pub(crate) effort: Effort,
    cell: Mutex<Cell>,
}

/// The step cannot go on: the violation is noted, or the store is to be given up.
#[derive(Debug)]
pub(crate) struct Stop;

pub(crate) type Go<T = ()> = Result<T, Stop>;

impl Life {
    pub(crate) fn new(
        history: History,
        disk: SimDisk,
        oracle: Oracle,
        effort: Effort,
    ) -> Arc<Self> {
        let cell = Cell {
            oracle,
            coverage: Coverage::default(),
            violation: None,
            disk,
            store: None,
            readers: Vec::new(),
            making: false,
            step: 0,
            end: 0,
            salt: 0,
            calls: 0,
            seen: crate::watch::Seen::default(),
            armed: None,
            saved: None,
            inside: None,
            compaction: None,
            compacting: false,
            faulty: false,
            poisoned: false,
            full: false,
            deaths: 0,
        };
        Arc::new(Self { history, effort, cell: Mutex::new(cell) })
    }

    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn setting(&self) -> &Setting {
        &self.history.setting
    }

    /// Lives the history to its end, from making the store or from opening it.
    pub(crate) fn live(self: Arc<Self>, make: bool) -> Outcome {
        let lived = caught(|| {
            let begun = if make { self.make() } else { self.open_again() };
            begun.and_then(|()| self.go_through())
        });
        if let Err(panic) = lived {
            self.violate(panic);
        }
        let disk = self.cell().disk.clone();
        disk.set_observer(None);
        if let Err(panic) = caught(|| self.leave()) {
            self.violate(format!("while the store is dropped: {panic}"));
        }
        let mut cell = self.cell();
        cell.coverage.histories += 1;
        cell.coverage.four_deaths += u64::from(cell.deaths >= 4);
        Outcome { coverage: cell.coverage, violation: cell.violation.take() }
    }

    /// Drops the store and all that keeps it alive.
    fn leave(&self) {
        let (store, compaction, readers, well) = {
            let mut cell = self.cell();
            let readers = core::mem::take(&mut cell.readers);
            (cell.store.take(), cell.compaction.take(), readers, cell.violation.is_none())
        };
        if let Some(store) = store.as_ref().filter(|_| well) {
            let stats = store.stats();
            let coverage = &mut self.cell().coverage;
            coverage.relocations += stats.relocations;
            coverage.pages_put += stats.pages_put;
            coverage.pages_carried += stats.pages_carried;
            coverage.slots_wrapped += u64::from(stats.generation > 2 && stats.checkpoints > 0);
        }
        drop((readers, compaction, store));
    }

    fn watch(self: &Arc<Self>, disk: &SimDisk) {
        let life = Arc::clone(self);
        disk.set_observer(Some(Arc::new(move |disk: &SimDisk, operation: &Operation| {
            life.observe(disk, operation);
        })));
    }

    fn make(self: &Arc<Self>) -> Go {
        let disk = self.cell().disk.clone();
        self.cell().making = true;
        self.watch(&disk);
        match self.setting().options().open(Rig::new(disk, Lie::None)) {
            Ok(store) => {
                self.cell().making = false;
                if self.setting().lie != Lie::None {
                    drop(store);
                    return self.open_again();
                }
                self.cell().store = Some(store);
                Ok(())
            }
            Err(error) => Err(self.violate(format!("making a store: {error}"))),
        }
    }

    /// Opens a store on the disk of the cell, whose state the oracle knows.
    fn open_again(self: &Arc<Self>) -> Go {
        let disk = self.cell().disk.clone();
        self.watch(&disk);
        let rig = Rig::new(disk, self.setting().lie);
        match self.setting().options().create(Create::Never).open(rig) {
            Ok(store) => {
                self.cell().store = Some(store);
                Ok(())
            }
            Err(error) => Err(self.violate(format!("opening again: {error}"))),
        }
    }

    fn go_through(self: &Arc<Self>) -> Go {
        let steps = &self.history.steps;
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            let left = steps.len() - at;
            // What belongs to a step that takes others into itself.
            let taken = match step.op {
                Op::During(_, n) => (2 + usize::from(n)).min(left),
                Op::Hold(n) => (1 + usize::from(n)).min(left),
                _ => 1,
            };
            {
                let mut cell = self.cell();
                cell.step = at;
                cell.end = at + taken;
                cell.salt = step.salt;
                cell.calls = 0;
                cell.coverage.steps += taken as u64;
            }
            let group = steps.get(at..at + taken).unwrap_or_default();
            match (step.op, group) {
                (Op::During(call, _), [_, outer, inner @ ..]) => self.during(call, outer, inner)?,
                (Op::During(..), _) => {}
                (Op::Hold(_), [_, inner @ ..]) => self.hold(inner)?,
                _ => self.step(step)?,
            }
            self.switch()?;
            self.look_at_readers()?;
            if self.cell().violation.is_some() {
                return Err(Stop);
            }
            at += taken;
        }
        Ok(())
    }

    /// Does a step, and others inside it once it has made so many calls to the platform.
    fn during(self: &Arc<Self>, call: u8, outer: &Step, inner: &[Step]) -> Go {
        let can = {
            let cell = self.cell();
            // The first change after opening has the store to itself.
            cell.oracle.confirmed && !cell.poisoned && crate::watch::has_inside(&outer.op)
        };
        if can {
            self.cell().inside = Some((call.into(), inner.to_vec()));
        }
        self.step(outer)?;
        let left = match can {
            true => self.cell().inside.take().map(|(_, steps)| steps),
            false => Some(inner.to_vec()),
        };
        for step in left.iter().flatten().filter(|step| simple(&step.op)) {
            self.step(step)?;
        }
        Ok(())
    }

    /// Notes a violation, if it is the first.
    pub(crate) fn violate(&self, what: String) -> Stop {
        let mut cell = self.cell();
        let history = self.cut_short(&cell, None, &[]);
        let (step, call) = (cell.step, None);
        cell.violation.get_or_insert(Violation { what, step, call, image: None, history });
        Stop
    }

    /// The history up to the present step, with a crash in it.
    pub(crate) fn cut_short(&self, cell: &Cell, image: Option<Image>, after: &[Step]) -> History {
        let steps = &self.history.steps;
        let (before, rest) = steps.split_at(cell.step.min(steps.len()));
        let present = rest.get(..cell.end.saturating_sub(cell.step).min(rest.len()));
        let crash = image.map(|image| Step { op: Op::CutIn(cell.calls, image), salt: 0 });
        let short = before.iter().chain(&crash).chain(present.unwrap_or_default()).chain(after);
        History { steps: short.copied().collect(), ..self.history.clone() }
    }

    /// If there was a death, goes on with what it left.
    fn switch(self: &Arc<Self>) -> Go {
        let saved = self.cell().saved.take();
        let Some(Saved { disk, mut oracle, killed }) = saved else { return Ok(()) };
        let allowed = if killed { oracle.after_kill() } else { oracle.after_power_cut() };
        {
            let mut cell = self.cell();
            cell.disk.set_observer(None);
            cell.inside = None;
        }
        self.leave();
        disk.set_capacity(None);
        let judge = Judge {
            setting: self.setting(),
            allowed: &allowed,
            making: self.cell().making,
            depth: Depth::Bytes,
            thorough: false,
        };
        let state = match judge.judge(&disk) {
            Ok(Some(state)) => state,
            Ok(None) => return Err(Stop),
            Err(what) => return Err(self.violate(what)),
        };
        {
            let mut cell = self.cell();
            cell.coverage.unconfirmed_deaths += u64::from(!oracle.confirmed);
            cell.coverage.states += 1;
            cell.deaths += 1;
            if killed {
                cell.coverage.kills += u64::from(!disk.in_flight().is_empty());
            } else {
                cell.coverage.power_cuts += 1;
            }
            oracle.reopened(state, !killed);
            cell.oracle = oracle;
            cell.disk = disk;
            cell.faulty = false;
            cell.poisoned = false;
            cell.full = false;
        }
        self.open_again()
    }
}

impl Cell {
    /// Lets a death happen that is due.
    pub(crate) fn strike(&mut self, disk: &SimDisk) {
        let Some((calls, death)) = &mut self.armed else { return };
        *calls -= 1;
        if *calls > 0 {
            return;
        }
        let (after, killed) = match death {
            Death::Cut(image) => (crate::images::make(disk, *image), false),
            Death::Kill => (Some(disk.kill()), true),
        };
        self.armed = None;
        if let Some(disk) = after {
            self.saved = Some(Saved { disk, oracle: self.oracle.clone(), killed });
        }
    }

    /// The states that the store may show after a power cut now.
    pub(crate) fn allowed(&self) -> Vec<Shot> {
        self.oracle.after_power_cut()
    }
}
