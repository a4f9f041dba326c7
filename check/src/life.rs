//! Running a history: a store on a simulated disk, the oracle beside it, and a watcher that looks at
//! the crash images of every call to the platform.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allod_core::platform::Platform;
use allod_core::{
    Compaction, Durability, Error, FlushReport, PlatformErrorKind, Reader, Region, Store,
};
use allod_mem::{DiskFault, Operation, OperationKind, SimDisk};

use crate::coverage::Coverage;
use crate::generate;
use crate::history::{History, Setting};
use crate::images;
use crate::oracle::{self, Known, Oracle, Shot, World};
use crate::prng::{bytes, mix};
use crate::rig::Rig;
use crate::step::{Image, Op, Step};

/// How closely a run looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// All images of a call are looked at if there are no more than this.
    pub enumerate: u64,
    /// Else so many are drawn by lot.
    pub samples: u32,
    /// On one of so many images a store is worked on, until more crashes; 0 for none.
    pub branch_once_in: u64,
    /// The first step at whose calls images are looked at.
    pub from: usize,
    /// A flush that finds nothing to do after the store was opened does not promise that what was
    /// recovered is durable.
    pub lax: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self { enumerate: 24, samples: 6, branch_once_in: 400, from: 0, lax: lax() }
    }
}

impl Effort {
    /// No images at all: what dies is what the history says.
    #[must_use]
    pub fn blind() -> Self {
        Self { enumerate: 0, samples: 0, branch_once_in: 0, from: usize::MAX, lax: lax() }
    }

    /// As close as shrinking a history needs.
    #[must_use]
    pub fn close() -> Self {
        Self { enumerate: 500, samples: 60, branch_once_in: 0, from: 0, lax: lax() }
    }
}

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
enum Death {
    Cut(Image),
    Kill,
}

/// What a death left.
struct Saved {
    disk: SimDisk,
    /// As it was then.
    oracle: Oracle,
    killed: bool,
}

struct Pinned {
    reader: Reader<Rig>,
    bytes: Arc<Vec<u8>>,
}

/// What the driver and the watcher share.
struct Cell {
    oracle: Oracle,
    coverage: Coverage,
    violation: Option<Violation>,
    disk: SimDisk,
    store: Option<Store<Rig>>,
    readers: Vec<Pinned>,
    /// The store is being made: a crash may leave none.
    making: bool,
    step: usize,
    /// The step after the last one that belongs to the present one.
    end: usize,
    salt: u32,
    calls: u32,
    syncs: u32,
    armed: Option<(u32, Death)>,
    saved: Option<Saved>,
    inside: Option<(u32, Vec<Step>)>,
    compaction: Option<Compaction<Rig>>,
    /// A sync was told to fail.
    faulty: bool,
    poisoned: bool,
    full: bool,
    deaths: u32,
}

struct Life {
    history: History,
    effort: Effort,
    cell: Mutex<Cell>,
}

/// The step cannot go on: the violation is noted, or the store is to be given up.
struct Stop;

type Go<T = ()> = Result<T, Stop>;

impl Life {
    fn new(history: History, disk: SimDisk, oracle: Oracle, effort: Effort) -> Arc<Self> {
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
            syncs: 0,
            armed: None,
            saved: None,
            inside: None,
            compaction: None,
            faulty: false,
            poisoned: false,
            full: false,
            deaths: 0,
        };
        Arc::new(Self { history, effort, cell: Mutex::new(cell) })
    }

    fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn setting(&self) -> &Setting {
        &self.history.setting
    }

    /// Lives the history to its end, from making the store or from opening it.
    fn live(self: Arc<Self>, make: bool) -> Outcome {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let begun = if make { self.make() } else { self.open_again() };
            begun.and_then(|()| self.go_through())
        }));
        if let Err(panic) = lived {
            self.violate(format!("panic: {}", panic_text(&*panic)));
        }
        let (disk, store, compaction, readers) = {
            let mut cell = self.cell();
            let readers = core::mem::take(&mut cell.readers);
            (cell.disk.clone(), cell.store.take(), cell.compaction.take(), readers)
        };
        disk.set_observer(None);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((store, compaction, readers))));
        if dropped.is_err() {
            self.violate("panic while the store is dropped".into());
        }
        let mut cell = self.cell();
        cell.coverage.histories += 1;
        cell.coverage.four_deaths += u64::from(cell.deaths >= 4);
        Outcome { coverage: cell.coverage, violation: cell.violation.take() }
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
        let rig = Rig::new(disk, self.setting().lie);
        match self.setting().options().open(rig) {
            Ok(store) => {
                let mut cell = self.cell();
                cell.making = false;
                cell.store = Some(store);
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
        match self.setting().options().create(allod_core::Create::Never).open(rig) {
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
        while at < steps.len() {
            let (inside, taken) = match steps[at].op {
                Op::During(call, n) => {
                    let from = (at + 2).min(steps.len());
                    let to = (from + usize::from(n)).min(steps.len());
                    (Some((call, from..to)), to - at)
                }
                Op::Hold(n) => (None, (1 + usize::from(n)).min(steps.len() - at)),
                _ => (None, 1),
            };
            {
                let mut cell = self.cell();
                cell.step = at;
                cell.end = at + taken;
                cell.salt = steps[at].salt;
                cell.calls = 0;
                cell.syncs = 0;
                cell.coverage.steps += taken as u64;
            }
            match (steps[at].op, inside) {
                (Op::During(..), Some((call, range))) => {
                    let Some(outer) = steps.get(at + 1) else { break };
                    let can = {
                        let cell = self.cell();
                        cell.oracle.confirmed
                            && !cell.poisoned
                            && matches!(outer.op, Op::Flush(_) | Op::Checkpoint)
                    };
                    if can {
                        self.cell().inside = Some((call.into(), steps[range.clone()].to_vec()));
                    }
                    self.step(outer)?;
                    let left = match can {
                        true => self.cell().inside.take().map(|(_, steps)| steps),
                        false => Some(steps[range].to_vec()),
                    };
                    for step in left.into_iter().flatten().filter(|step| simple(&step.op)) {
                        self.step(&step)?;
                    }
                }
                (Op::Hold(_), _) => self.hold(&steps[at + 1..at + taken])?,
                _ => self.step(&steps[at])?,
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

    /// Notes a violation, if it is the first.
    fn violate(&self, what: String) -> Stop {
        let mut cell = self.cell();
        let history = self.cut_short(&cell, None, &[]);
        let (step, call) = (cell.step, None);
        cell.violation.get_or_insert(Violation { what, step, call, image: None, history });
        Stop
    }

    /// The history up to the present step, with a crash in it.
    fn cut_short(&self, cell: &Cell, image: Option<Image>, after: &[Step]) -> History {
        let steps = &self.history.steps;
        let (at, end) = (cell.step.min(steps.len()), cell.end.min(steps.len()));
        let mut short = steps[..at].to_vec();
        if let Some(image) = image {
            short.push(Step { op: Op::CutIn(cell.calls, image), salt: 0 });
        }
        short.extend_from_slice(&steps[at..end]);
        short.extend_from_slice(after);
        History { steps: short, ..self.history.clone() }
    }

    // ---- the watcher

    fn observe(self: &Arc<Self>, disk: &SimDisk, operation: &Operation) {
        let doomed = {
            let mut cell = self.cell();
            cell.calls += 1;
            cell.coverage.calls += 1;
            if matches!(operation.kind(), OperationKind::Sync | OperationKind::WriteSync) {
                cell.syncs += 1;
            }
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
        let (allowed, making, seed) = {
            let cell = self.cell();
            let seed = mix(cell.salt.into(), cell.calls.into());
            (cell.oracle.after_power_cut(), cell.making, seed)
        };
        let choice = images::choose(disk, &self.effort, seed);
        let mut states = 0;
        for (number, image) in choice.images().enumerate() {
            let Some(after) = choice.make(disk, image) else { continue };
            states += 1;
            let lot = mix(seed, number as u64);
            let judged = judge(&after, &allowed, self.setting(), making);
            let failed = match judged {
                Err(what) => Some((what, Vec::new())),
                Ok(Some(state)) if self.branches(lot) => {
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
                cell.violation.get_or_insert(Violation {
                    what,
                    step,
                    call,
                    image: Some(image),
                    history,
                });
                break;
            }
        }
        self.cell().coverage.states += states;
    }

    fn branches(&self, lot: u64) -> bool {
        self.effort.branch_once_in > 0 && lot % self.effort.branch_once_in == 0
    }

    /// Works on after a crash, and looks at the crashes of that.
    fn branch(&self, disk: SimDisk, state: Shot, lot: u64) -> Option<(String, Vec<Step>)> {
        let mut oracle = self.cell().oracle.clone();
        oracle.reopened(state, true);
        disk.set_capacity(None);
        let steps = generate::after_crash(lot);
        let history = History { steps, ..self.history.clone() };
        let effort = Effort {
            samples: self.effort.samples.min(4),
            branch_once_in: 0,
            from: 0,
            ..self.effort
        };
        let outcome = Life::new(history, disk, oracle, effort).live(false);
        self.cell().coverage.add(&Coverage { histories: 0, ..outcome.coverage });
        let Violation { what, history, .. } = outcome.violation?;
        Some((what, history.steps))
    }

    /// Does what is to be done inside a flush, where nobody holds a lock that it could need.
    fn interfere(self: &Arc<Self>, operation: &Operation) {
        let steps = {
            let mut cell = self.cell();
            let sync = matches!(operation.kind(), OperationKind::Sync | OperationKind::WriteSync);
            let write = operation.kind() == OperationKind::Write && cell.syncs == 0;
            let due = cell.inside.as_ref().is_some_and(|(call, _)| cell.calls > *call);
            if !due || !(sync || write) {
                return;
            }
            cell.inside.take().map(|(_, steps)| steps)
        };
        for step in steps.into_iter().flatten().filter(|step| simple(&step.op)) {
            self.cell().coverage.inside += 1;
            if self.step(&step).is_err() {
                return;
            }
        }
    }

    // ---- the driver

    fn store(&self) -> Go<Store<Rig>> {
        self.cell().store.clone().ok_or(Stop)
    }

    /// What an error of the store means. `Ok` if there was reason for it.
    fn refused(&self, error: &Error) -> Go {
        let mut cell = self.cell();
        match error {
            Error::Poisoned { .. } if cell.faulty || (self.effort.lax && cell.full) => {
                cell.coverage.poisonings += u64::from(!cell.poisoned);
                cell.poisoned = true;
                Ok(())
            }
            Error::Platform(error) if error.kind == PlatformErrorKind::NoSpace && cell.full => {
                cell.coverage.full_disks += 1;
                Ok(())
            }
            _ => {
                drop(cell);
                Err(self.violate(format!("an error without a reason: {error}")))
            }
        }
    }

    fn still_well(&self) -> Go {
        if self.cell().poisoned {
            return Err(self.violate("a poisoned store goes on".into()));
        }
        Ok(())
    }

    /// Does something that changes the store, and the same to the oracle.
    fn change<T>(
        &self,
        act: impl FnOnce(&Store<Rig>) -> allod_core::Result<T>,
        apply: impl FnOnce(&mut World, T) -> Result<(), String>,
    ) -> Go {
        let store = self.store()?;
        match act(&store) {
            Ok(answer) => {
                self.still_well()?;
                let mut cell = self.cell();
                cell.coverage.confirmations += u64::from(!cell.oracle.confirmed);
                cell.oracle.acknowledge();
                let applied = apply(&mut cell.oracle.now, answer);
                drop(cell);
                applied.map_err(|what| self.violate(what))
            }
            Err(error) => self.refused(&error),
        }
    }

    /// The same to the bytes of one region. `make` says that the region is made if there is none.
    fn change_bytes(
        &self,
        region: u8,
        make: bool,
        act: impl FnOnce(&Region<Rig>, &[u8]) -> allod_core::Result<()>,
        apply: impl FnOnce(&mut Vec<u8>),
    ) -> Go {
        let there = self.cell().oracle.now.regions.contains_key(&region);
        if !there {
            if !make {
                return Ok(());
            }
            self.create(region)?;
        }
        let Some(known) = self.cell().oracle.now.regions.get(&region).cloned() else {
            return Ok(()); // It could not be made.
        };
        let handle = self.store()?.region(oracle::name(region));
        let Some(handle) = handle else {
            return Err(self.violate(format!("region {:?} is gone", oracle::name(region))));
        };
        let start = handle.capacity().ok().zip(self.start_of(region));
        self.change(
            |_| act(&handle, &known.bytes),
            |world, ()| {
                if let Some(known) = world.regions.get_mut(&region) {
                    apply(Arc::make_mut(&mut known.bytes));
                }
                Ok(())
            },
        )?;
        if let Some((capacity, start)) = start {
            let moved = capacity > 0 && self.start_of(region).is_some_and(|now| now != start);
            self.cell().coverage.moves += u64::from(moved);
        }
        Ok(())
    }

    fn start_of(&self, region: u8) -> Option<u64> {
        let store = self.store().ok()?;
        let infos = store.regions();
        infos.iter().find(|info| info.name == oracle::name(region)).map(|info| info.start)
    }

    fn create(&self, region: u8) -> Go {
        if self.cell().oracle.now.regions.contains_key(&region) {
            return Ok(());
        }
        self.change(
            |store| Ok(store.create_region(oracle::name(region))?.id()),
            |world, id| {
                if id <= world.highest_id {
                    return Err(format!("id {id} was used before"));
                }
                world.highest_id = id;
                world.regions.insert(region, Known { id, bytes: Arc::default() });
                Ok(())
            },
        )
    }

    fn step(self: &Arc<Self>, step: &Step) -> Go {
        let seed = u64::from(step.salt);
        let data = |len: u32| bytes(seed, len as usize);
        match step.op {
            Op::Create(region) => self.create(region),
            Op::Append(region, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    true,
                    |handle, _| handle.append(&data).map(|_| ()),
                    |bytes| bytes.extend_from_slice(&data),
                )
            }
            Op::Write(region, at, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    false,
                    |handle, old| handle.write_at(offset(at, old) as u64, &data),
                    |bytes| {
                        let at = offset(at, bytes);
                        let over = data.len().min(bytes.len() - at);
                        bytes[at..at + over].copy_from_slice(&data[..over]);
                        bytes.extend_from_slice(&data[over..]);
                    },
                )
            }
            Op::Truncate(region, len) => self.change_bytes(
                region,
                false,
                |handle, old| handle.truncate(offset(len, old) as u64),
                |bytes| bytes.truncate(offset(len, bytes)),
            ),
            Op::TruncateWrite(region, at, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    false,
                    |handle, old| handle.truncate_write(offset(at, old) as u64, &data),
                    |bytes| {
                        bytes.truncate(offset(at, bytes));
                        bytes.extend_from_slice(&data);
                    },
                )
            }
            Op::Replace(region, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    true,
                    |handle, _| handle.replace(&data),
                    |bytes| bytes.clone_from(&data),
                )
            }
            Op::Reserve(region, len) => {
                self.change_bytes(region, false, |handle, _| handle.reserve(len.into()), |_| ())
            }
            Op::Rename(from, to) => {
                let regions = &self.cell().oracle.now.regions.clone();
                if !regions.contains_key(&from) || regions.contains_key(&to) {
                    return Ok(());
                }
                self.change(
                    |store| store.rename_region(oracle::name(from), oracle::name(to)),
                    |world, ()| {
                        if let Some(known) = world.regions.remove(&from) {
                            world.regions.insert(to, known);
                        }
                        Ok(())
                    },
                )
            }
            Op::Remove(region) => {
                if !self.cell().oracle.now.regions.contains_key(&region) {
                    return Ok(());
                }
                self.change(
                    |store| store.remove_region(oracle::name(region)),
                    |world, ()| {
                        world.regions.remove(&region);
                        Ok(())
                    },
                )
            }
            Op::Pin(region) => self.pin(region),
            Op::Unpin(which) => {
                let mut cell = self.cell();
                if !cell.readers.is_empty() {
                    let at = usize::from(which) % cell.readers.len();
                    let dropped = cell.readers.swap_remove(at);
                    drop(cell);
                    drop(dropped);
                }
                Ok(())
            }
            Op::Flush(durability) => self.flush(Some(durability), |s| s.flush_with(durability)),
            Op::Checkpoint => self.flush(None, Store::checkpoint),
            Op::Compact(budget) => {
                let progress = self.compact(true, |store| {
                    store.compact_with(budget.into(), |_| ControlFlow::Continue(()))
                })?;
                if let Some(progress) = progress {
                    self.cell().coverage.count(&progress);
                }
                Ok(())
            }
            Op::CompactStep(budget) => self.compact_step(budget),
            Op::Look => self.look(),
            Op::Reopen => {
                let mut cell = self.cell();
                let saved =
                    Saved { disk: cell.disk.kill(), oracle: cell.oracle.clone(), killed: true };
                cell.coverage.reopenings += 1;
                cell.saved = Some(saved);
                Ok(())
            }
            Op::PowerCut(image) => {
                let mut cell = self.cell();
                let Some(disk) = images::make(&cell.disk, image) else { return Ok(()) };
                cell.saved = Some(Saved { disk, oracle: cell.oracle.clone(), killed: false });
                Ok(())
            }
            Op::CutIn(calls, image) => {
                self.cell().armed = Some((calls.max(1), Death::Cut(image)));
                Ok(())
            }
            Op::KillIn(calls) => {
                self.cell().armed = Some((calls.max(1), Death::Kill));
                Ok(())
            }
            Op::FailSync(nth, kept) => {
                let mut cell = self.cell();
                cell.disk.inject(DiskFault::FailSync { nth: nth.into(), persisted: kept.into() });
                cell.faulty = true;
                Ok(())
            }
            Op::Full(pages) => {
                let mut cell = self.cell();
                let taken = cell.disk.allocated().ok().flatten().unwrap_or(0);
                cell.disk.set_capacity(Some(taken + u64::from(pages) * 4096));
                cell.full = true;
                Ok(())
            }
            Op::Lift => {
                let mut cell = self.cell();
                cell.disk.set_capacity(None);
                cell.full = false;
                Ok(())
            }
            Op::Hold(_) | Op::During(..) => Ok(()),
        }
    }

    fn flush(
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
        let result = act(&store);
        let mut cell = self.cell();
        cell.oracle.in_flight = None;
        match result {
            Ok(report) => {
                let process = durability == Some(Durability::Process);
                let lax = self.effort.lax && report.syncs == 0 && !process;
                if !lax {
                    cell.oracle.flushed(state, !process);
                }
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
                    cell.oracle.loose.push(state);
                }
                drop(cell);
                self.refused(&error)
            }
        }
    }

    /// Does what flushes as it goes, and what nobody sees else. `acknowledges` says whether the
    /// state at the beginning is durable when it returns.
    fn compact<T>(
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
        let result = act(&store);
        let mut cell = self.cell();
        cell.oracle.in_flight = None;
        match result {
            Ok(answer) => {
                cell.coverage.compactions += 1;
                if acknowledges {
                    cell.oracle.flushed(state, true);
                } else {
                    cell.oracle.loose.push(state);
                }
                let silent = cell.calls == 0 || self.effort.lax;
                drop(cell);
                if !silent {
                    self.still_well()?;
                }
                Ok(Some(answer))
            }
            Err(error) => {
                if !cell.poisoned {
                    cell.oracle.loose.push(state);
                }
                drop(cell);
                self.refused(&error)?;
                Ok(None)
            }
        }
    }

    fn compact_step(&self, budget: u32) -> Go {
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
    fn hold(self: &Arc<Self>, steps: &[Step]) -> Go {
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

    fn pin(&self, region: u8) -> Go {
        let Some(known) = self.cell().oracle.now.regions.get(&region).cloned() else {
            return Ok(());
        };
        let Some(handle) = self.store()?.region(oracle::name(region)) else {
            return Err(self.violate(format!("region {:?} is gone", oracle::name(region))));
        };
        match handle.reader() {
            Ok(reader) => {
                let dropped = {
                    let mut cell = self.cell();
                    cell.readers.push(Pinned { reader, bytes: known.bytes });
                    (cell.readers.len() > 6).then(|| cell.readers.remove(0))
                };
                drop(dropped);
                Ok(())
            }
            Err(error) => Err(self.violate(format!("a reader: {error}"))),
        }
    }

    fn look_at_readers(&self) -> Go {
        let readers = core::mem::take(&mut self.cell().readers);
        for (number, Pinned { reader, bytes }) in readers.iter().enumerate() {
            let what = match reader.read_all() {
                Ok(found) => oracle::difference(&found, bytes),
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = what {
                return Err(self.violate(format!("reader {number}: {what}")));
            }
        }
        let mut cell = self.cell();
        cell.coverage.reader_looks += readers.len() as u64;
        cell.readers = readers;
        Ok(())
    }

    fn look(&self) -> Go {
        let store = self.store()?;
        let now = self.cell().oracle.now.clone();
        if let Some(what) = oracle::differs(&store, &now) {
            return Err(self.violate(format!("without a crash: {what}")));
        }
        let skip = {
            let cell = self.cell();
            // What a poisoned store believes is not what its disk says, and inside a flush verify
            // would wait for its end.
            cell.poisoned || cell.oracle.in_flight.is_some()
        };
        match if skip { Ok(Default::default()) } else { store.verify() } {
            Ok(report) if report.is_clean() => {}
            Ok(report) => return Err(self.violate(format!("verify: {:?}", report.findings))),
            Err(error) => return Err(self.violate(format!("verify: {error}"))),
        }
        let mut runs: Vec<_> = store.regions().into_iter().filter(|r| r.capacity > 0).collect();
        runs.sort_unstable_by_key(|info| info.start);
        for pair in runs.windows(2) {
            if pair[0].start + pair[0].capacity > pair[1].start {
                return Err(self.violate(format!("{:?} overlaps {:?}", pair[0], pair[1])));
            }
        }
        Ok(())
    }

    /// If there was a death, goes on with what it left.
    fn switch(self: &Arc<Self>) -> Go {
        let saved = self.cell().saved.take();
        let Some(Saved { disk, mut oracle, killed }) = saved else { return Ok(()) };
        let allowed = if killed { oracle.after_kill() } else { oracle.after_power_cut() };
        let dropped = {
            let mut cell = self.cell();
            cell.disk.set_observer(None);
            cell.inside = None;
            (cell.store.take(), cell.compaction.take(), core::mem::take(&mut cell.readers))
        };
        drop(dropped);
        disk.set_capacity(None);
        let making = self.cell().making;
        let state = match judge(&disk, &allowed, self.setting(), making) {
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
    fn strike(&mut self, disk: &SimDisk) {
        let Some((calls, death)) = &mut self.armed else { return };
        *calls -= 1;
        if *calls > 0 {
            return;
        }
        let (after, killed) = match death {
            Death::Cut(image) => (images::make(disk, *image), false),
            Death::Kill => (Some(disk.kill()), true),
        };
        self.armed = None;
        if let Some(disk) = after {
            self.saved = Some(Saved { disk, oracle: self.oracle.clone(), killed });
        }
    }
}

/// Whether an operation can happen inside another.
fn simple(op: &Op) -> bool {
    matches!(
        op,
        Op::Create(_)
            | Op::Append(..)
            | Op::Write(..)
            | Op::Truncate(..)
            | Op::TruncateWrite(..)
            | Op::Replace(..)
            | Op::Rename(..)
            | Op::Remove(_)
            | Op::Reserve(..)
            | Op::Pin(_)
            | Op::Unpin(_)
            | Op::Look
    )
}

/// An offset that the bytes have.
fn offset(at: u32, bytes: &[u8]) -> usize {
    at as usize % (bytes.len() + 1)
}

/// Opens a store on what a crash left, and answers which of the allowed states it shows. `None` if
/// there may be no store, and is none.
fn judge(
    disk: &SimDisk,
    allowed: &[Shot],
    setting: &Setting,
    making: bool,
) -> Result<Option<Shot>, String> {
    let before = disk.operations();
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let rig = Rig::new(disk.clone(), setting.lie);
        let store = match setting.options().create(allod_core::Create::Never).open(rig) {
            Ok(store) => store,
            Err(Error::NoStore | Error::Unfinished) if making => return Ok(None),
            Err(error) => return Err(format!("recovery: {error}")),
        };
        let mut wrong = Vec::new();
        for state in allowed {
            match oracle::differs(&store, state) {
                None => return Ok(Some(cautious(state, allowed))),
                Some(what) => wrong.push(format!("not {}: {what}", state.sketch())),
            }
        }
        wrong.dedup();
        Err(format!("recovered a state that never was; {}", wrong.join("; ")))
    }));
    let state = opened.unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))))?;
    if disk.operations() != before {
        return Err("recovery writes".into());
    }
    Ok(state)
}

/// The state, or one of those that look like it, whichever promises least about ids.
fn cautious(state: &Shot, allowed: &[Shot]) -> Shot {
    let alike = allowed.iter().filter(|other| other.regions == state.regions);
    alike.min_by_key(|other| other.highest_id).unwrap_or(state).clone()
}

/// What a panic says.
fn panic_text(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
    let place = crate::last_panic().unwrap_or_default();
    format!("{text} {place}")
}

fn lax() -> bool {
    std::env::var_os("LAX").is_some()
}
