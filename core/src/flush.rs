//! The flush: from one consistent state of the whole store to the next.
//!
//! A flush makes its [cut](crate::epoch), captures every region that changed before it, and writes
//! what it captured in one of three ways:
//!
//! * **small** (F2): everything, bytes and all, in one batch at the end of the journal; one sync;
//! * **large** (F3): fresh pages to their places, a sync, a batch with the rest, a sync;
//! * **checkpoint** (F5, in [`generation`](crate::generation)): the whole table to a new place, and
//!   a new generation of the journal; three syncs.
//!
//! One flush is under way at a time (I3): the [`Flusher`] is its lock, and everything that only a
//! flush may know. Callers who wait for the lock share the next flush.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::capture::{Capture, Fate};
use crate::copy::Original;
use crate::error::{Error, PlatformError, Result};
use crate::journal::{self, BatchWriter, Mark};
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::recovery::Unconfirmed;
use crate::run::Run;
use crate::spill::write_pages;
use crate::state::Changed;
use crate::store::Inner;
use crate::superblock::Superblock;
use crate::usage::Counters;

/// The journal is written ahead with zeros in steps of this many bytes, so that the syncs that
/// follow change no metadata of the file system (measured: 90 µs a sync instead of 134 to 191).
const ZERO_STEP: u64 = 256 << 10;
/// More pages than this that wait for nothing but a checkpoint call for one: 64 MiB of 4 KiB.
const RETIRED_LIMIT: u64 = 16 << 10;

/// What a flush promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The state survives the end of the process and the loss of power. One sync for small changes.
    #[default]
    Sync,
    /// The state survives the end of the process, but perhaps not the loss of power: the bytes
    /// reach the kernel, without a sync. After a loss of power the store is in the state of this
    /// flush or of an earlier one, whole in any case.
    Process,
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// The generation of the store: how many checkpoints it has had.
    pub generation: u64,
    /// How many regions changed.
    pub regions: u64,
    /// How many bytes were written by the flush, metadata and padding included.
    pub bytes: u64,
    /// How many times the device was asked to make bytes durable. 0 if there was nothing to do.
    pub syncs: u32,
    /// Whether the flush wrote a checkpoint.
    pub checkpoint: bool,
    /// Whether another thread's flush did the work of this one.
    pub shared: bool,
}

/// What only a flush may know, behind the lock that makes flushes one after the other.
pub(crate) struct Flusher {
    pub(crate) store_id: u128,
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    /// The slot page that holds this generation's superblock.
    pub(crate) slot: u64,
    /// What both slot pages say.
    pub(crate) slots: [Option<Superblock>; 2],
    pub(crate) checkpoint: Run,
    pub(crate) journal: Run,
    /// Pages of the journal that hold batches.
    pub(crate) used: u64,
    /// Pages of the journal that were written at least once.
    pub(crate) zeroed: u64,
    /// The newest batch, and the newest of which it is known that it is durable.
    pub(crate) sequence: u64,
    pub(crate) durable_sequence: u64,
    /// The newest cut that any flush wrote, that a durable one did, and that a checkpoint did.
    pub(crate) written_cut: u64,
    pub(crate) durable_cut: u64,
    pub(crate) checkpoint_cut: u64,
    /// What recovery found, until the confirmation (R4) has been written.
    pub(crate) unconfirmed: Option<Unconfirmed>,
    pub(crate) last: FlushReport,
}

/// How a flush is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Flush(Durability),
    /// A checkpoint, even if nothing changed.
    Checkpoint,
    /// A checkpoint, and a reader of every region as it was at the cut.
    Copy,
}

/// A batch entry with bytes, before it is encoded.
struct Piece<'a> {
    page: u64,
    offset: u32,
    full: bool,
    data: alloc::borrow::Cow<'a, [u8]>,
}

impl<P: Platform> Inner<P> {
    pub(crate) fn flush(&self, durability: Durability) -> Result<FlushReport> {
        self.flush_as(Request::Flush(durability), None)
    }

    /// Flushes; with [`Request::Copy`], `originals` gets a reader of every region at the cut.
    pub(crate) fn flush_as(
        &self,
        request: Request,
        originals: Option<&mut Vec<Original<P>>>,
    ) -> Result<FlushReport> {
        if self.held_by_this_thread() {
            return Err(Error::HoldActive);
        }
        let mut confirmed = false;
        match request {
            Request::Checkpoint | Request::Copy => self.ready()?,
            Request::Flush(_) => {
                self.check_poison()?;
                let sync = request == Request::Flush(Durability::Sync);
                if sync && !self.is_read_only() && !self.is_ready() {
                    // What recovery found may be in the cache and not on the device (I9): only the
                    // confirmation makes it durable.
                    self.ready()?;
                    confirmed = true;
                }
                if !self.is_ready() {
                    // Nothing can have changed.
                    let generation = self.flusher.lock().generation;
                    return Ok(FlushReport { generation, ..FlushReport::default() });
                }
            }
        }
        let target = self.dirty.lock().epoch;
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut flusher = self.flusher.lock();
        let mut open = self.hold.try_write();
        if open.is_none() {
            // Who holds the cut open may need what this lock guards: wait without it.
            drop(flusher);
            open = Some(self.hold.write());
            flusher = self.flusher.lock();
        }
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        self.check_poison()?;
        let reached = match request {
            Request::Flush(Durability::Sync) => flusher.durable_cut,
            Request::Flush(Durability::Process) => flusher.written_cut,
            Request::Checkpoint | Request::Copy => 0,
        };
        if reached >= target {
            Counters::add(&self.counters.shared_flushes, 1);
            return Ok(FlushReport { shared: true, ..flusher.last });
        }
        self.let_others_join();
        let pending = flusher.written_cut > flusher.durable_cut;
        let force = match request {
            Request::Flush(Durability::Sync) => pending,
            Request::Flush(Durability::Process) => false,
            Request::Checkpoint | Request::Copy => true,
        };
        // F1: the cut. Nobody holds it open now.
        let ended = self.end_epoch(force);
        drop(open);
        let Some((cut, list)) = ended else {
            // All that this caller wrote is in a flush that has returned.
            let nothing = FlushReport { generation: flusher.generation, ..FlushReport::default() };
            return Ok(if confirmed { flusher.last } else { nothing });
        };
        let mut captures = Vec::with_capacity(list.len());
        for index in list {
            captures.extend(self.visit(index, cut));
        }
        let plan = self.plan(&mut flusher, &mut captures, request);
        if plan != Plan::Checkpoint {
            self.dirty.lock().cut_open = false;
        }
        let result = match plan {
            Plan::Checkpoint => self.checkpoint(&mut flusher, cut, &mut captures, false, originals),
            Plan::Small | Plan::Large => {
                let sync = request != Request::Flush(Durability::Process);
                self.write_batch(&mut flusher, cut, &captures, plan, sync)
            }
        };
        match result {
            Ok(report) => {
                flusher.last = report;
                self.count(&report);
                if plan != Plan::Large && flusher.durable_cut == cut {
                    self.put_captured_in_place(&flusher, &captures);
                }
                if self.over_budget() {
                    // As above: what fails stays for the next time.
                    let _ = self.put_queued(&flusher);
                }
                let indexes: Vec<u32> = captures.iter().map(|capture| capture.index).collect();
                // They look at the regions themselves.
                drop(captures);
                for slot in indexes.into_iter().filter_map(|index| self.slots.get(index)) {
                    self.rest(&mut slot.lock());
                }
                Ok(report)
            }
            Err(error) => {
                if self.check_poison().is_ok() {
                    Counters::add(&self.counters.failed_flushes, 1);
                    self.restore(&captures);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn count(&self, report: &FlushReport) {
        Counters::add(&self.counters.flushes, 1);
        Counters::add(&self.counters.syncs, report.syncs as usize);
        Counters::add(&self.counters.checkpoints, report.checkpoint.into());
    }

    /// Waits as long as more callers come to share the flush that is about to begin. Without this,
    /// two halves of the callers alternate, each waiting for a sync of the other.
    fn let_others_join(&self) {
        let mut waiting = self.waiting.load(Ordering::Acquire);
        for _ in 0..64 {
            if waiting == 0 {
                return;
            }
            self.base.platform.yield_now();
            let now = self.waiting.load(Ordering::Acquire);
            if now <= waiting {
                return;
            }
            waiting = now;
        }
    }

    /// Ends the epoch. `None` if nothing changed in it, unless `force`.
    pub(crate) fn end_epoch(&self, force: bool) -> Option<(u64, Vec<u32>)> {
        let mut dirty = self.dirty.lock();
        if dirty.list.is_empty() && !force {
            return None;
        }
        let cut = dirty.epoch;
        dirty.epoch += 1;
        self.epoch.store(dirty.epoch as usize, Ordering::Release);
        dirty.cut_open = true;
        Some((cut, core::mem::take(&mut dirty.list)))
    }

    /// Captures a region of the dirty list, or takes what a writer captured before us.
    fn visit(&self, index: u32, cut: u64) -> Option<Capture<P>> {
        let mut state = self.slots.get(index)?.lock();
        let live = state.live.as_deref_mut()?;
        if let Some((number, capture)) = live.captured.take() {
            if number == cut {
                return Some(*capture);
            }
        }
        if live.visited == cut {
            return None;
        }
        Some(state.capture(&self.base, index, cut, |pages| self.allocate_at_cut(pages)))
    }

    /// Decides how the flush is written, and what becomes of each page.
    fn plan(&self, flusher: &mut Flusher, captures: &mut [Capture<P>], request: Request) -> Plan {
        let Request::Flush(durability) = request else { return Plan::Checkpoint };
        if self.ground.lock().retirement.pages() > RETIRED_LIMIT
            && self.ground.lock().retirement.pages_behind_checkpoint() > RETIRED_LIMIT
        {
            return Plan::Checkpoint;
        }
        let all: u64 = captures.iter().map(|capture| self.inline_len(capture, true)).sum();
        let small = durability == Durability::Process || all <= self.inline_limit;
        let forgets = match durability {
            Durability::Process => mutant::is(Mutant::KernelNotInline),
            Durability::Sync => small && mutant::is(Mutant::DrainedIsClean),
        };
        if forgets {
            captures.iter_mut().for_each(|capture| capture.drained = (0, 0));
        }
        if !small {
            for page in captures.iter_mut().flat_map(|capture| &mut capture.pages) {
                if page.fresh && !page.blocked {
                    page.fate = Fate::Placed;
                }
            }
        }
        let inline: u64 = captures.iter().map(|capture| self.inline_len(capture, small)).sum();
        let meta: u64 = captures.iter().map(|capture| 48 + capture.name.len() as u64).sum();
        let len = journal::HEADER_LEN as u64 + meta + inline;
        if mutant::is(Mutant::JournalWraps)
            && flusher.used + self.base.pages(len) >= flusher.journal.pages
        {
            flusher.used = 0;
        }
        match flusher.used + self.base.pages(len) < flusher.journal.pages {
            true if small => Plan::Small,
            true => Plan::Large,
            false => {
                captures
                    .iter_mut()
                    .flat_map(|capture| &mut capture.pages)
                    .for_each(|page| page.fate = Fate::Inlined);
                Plan::Checkpoint
            }
        }
    }

    /// How many bytes of a batch the captured pages take, at most.
    fn inline_len(&self, capture: &Capture<P>, drained: bool) -> u64 {
        const ENTRY: u64 = 24;
        let size = self.base.page_size();
        let pages: u64 = capture
            .pages
            .iter()
            .filter(|page| page.fate == Fate::Inlined)
            .map(|page| match page.journaled {
                true => ENTRY + u64::from(page.dirty.to - page.dirty.from),
                false => ENTRY + size,
            })
            .sum();
        let (from, to) = capture.drained;
        pages + if drained { to.saturating_sub(from) * (ENTRY + size) } else { 0 }
    }

    /// F2, F3 and F4.
    fn write_batch(
        &self,
        flusher: &mut Flusher,
        cut: u64,
        captures: &[Capture<P>],
        plan: Plan,
        sync: bool,
    ) -> Result<FlushReport> {
        let mut report = FlushReport {
            generation: flusher.generation,
            regions: captures.len() as u64,
            ..FlushReport::default()
        };
        self.grow_for_all()?;
        if plan == Plan::Large {
            report.bytes += self.place(captures)?;
            report.syncs += 1;
            if !mutant::is(Mutant::DataNotSynced) {
                self.sync_or_poison()?;
            }
            flusher.durable_sequence = flusher.sequence;
        }
        let batch = self.encode(flusher, captures, plan)?;
        report.bytes += self.append_batch(flusher, batch, sync, &mut report.syncs)?;
        flusher.written_cut = cut;
        if sync {
            flusher.durable_cut = cut;
            flusher.durable_sequence = flusher.sequence;
        }
        for capture in captures {
            self.settle(capture, plan, sync);
        }
        if sync {
            self.release(flusher.durable_cut, flusher.checkpoint_cut);
        } else if mutant::is(Mutant::KernelReleases) {
            self.release(flusher.written_cut, flusher.checkpoint_cut);
        }
        Ok(report)
    }

    /// Writes the captured pages whose fate it is to their places. An error poisons nothing: the
    /// pages are fresh, and stay dirty.
    pub(crate) fn place(&self, captures: &[Capture<P>]) -> Result<u64> {
        let mut pages = Vec::new();
        for capture in captures {
            // What was begun before the cut must not land after our sync (F5, hole B).
            drop(capture.io.lock());
            pages.extend(
                capture
                    .pages
                    .iter()
                    .filter(|page| page.fate == Fate::Placed)
                    .map(|page| (capture.run.start + page.page, page.bytes.clone())),
            );
        }
        pages.sort_unstable_by_key(|(place, _)| *place);
        write_pages(&self.base, &pages)?;
        Ok(self.base.page_offset(pages.len() as u64))
    }

    fn encode(&self, flusher: &Flusher, captures: &[Capture<P>], plan: Plan) -> Result<Vec<u8>> {
        let base = &self.base;
        let table = self.table.read();
        let mut batch = BatchWriter::new(
            flusher.store_id,
            flusher.salt,
            flusher.sequence + 1,
            flusher.durable_sequence,
            table.next_id,
            base.page_size() as u32,
        );
        for capture in captures {
            let changed = capture.changed;
            let created = changed.has(Changed::CREATED);
            if capture.removed {
                if changed.has(Changed::REMOVED) && !created {
                    batch.remove(capture.id);
                }
            } else if changed != Changed::NOTHING {
                batch.put(
                    capture.id,
                    created,
                    (created || changed.has(Changed::NAME)).then(|| table.name(capture.name)),
                    (created || changed.has(Changed::RUN)).then_some(capture.run),
                    (created || changed.has(Changed::LEN) || changed.has(Changed::RUN))
                        .then_some(capture.len),
                );
            }
        }
        drop(table);
        let mut pieces = self.pieces(captures, plan)?;
        pieces.sort_unstable_by_key(|piece| piece.page);
        for piece in pieces {
            batch.bytes(piece.page, piece.offset, piece.full, &piece.data);
        }
        Ok(batch.finish())
    }

    /// P4: the first change of a page in a generation is its full image, later ones their range.
    fn pieces<'a>(&self, captures: &'a [Capture<P>], plan: Plan) -> Result<Vec<Piece<'a>>> {
        let base = &self.base;
        let mut pieces = Vec::new();
        for capture in captures {
            let image = |number: u64| {
                base.page_size().min(capture.len.saturating_sub(base.page_offset(number))) as usize
            };
            for page in capture.pages.iter().filter(|page| page.fate == Fate::Inlined) {
                let used = image(page.page);
                let known = page.journaled || mutant::is(Mutant::FirstEntryPartial);
                let (from, to) = match known {
                    true => (page.dirty.from as usize, (page.dirty.to as usize).min(used)),
                    false => (0, used),
                };
                if from >= to {
                    continue; // What changed was cut off again.
                }
                let Some(data) = page.bytes.get(from..to) else {
                    panic!("I7: page {} has no bytes {from}..{to} in memory", page.page);
                };
                pieces.push(Piece {
                    page: capture.run.start + page.page,
                    offset: from as u32,
                    full: !known,
                    data: data.into(),
                });
            }
            if plan == Plan::Small {
                for number in capture.drained_pages() {
                    let mut data = base.buffer(image(number))?;
                    base.read(capture.run, base.page_offset(number), &mut data)?;
                    pieces.push(Piece {
                        page: capture.run.start + number,
                        offset: 0,
                        full: true,
                        data: Vec::from(data).into(),
                    });
                }
            }
        }
        Ok(pieces)
    }

    /// Writes a batch behind the last one (I1: each starts on a page of its own).
    pub(crate) fn append_batch(
        &self,
        flusher: &mut Flusher,
        mut batch: Vec<u8>,
        sync: bool,
        syncs: &mut u32,
    ) -> Result<u64> {
        let base = &self.base;
        let pages = base.pages(batch.len() as u64);
        let end = flusher.used + pages;
        assert!(end < flusher.journal.pages, "I1: a batch passes the end of the journal");
        let place = base.page_offset(flusher.journal.start + flusher.used);
        let step = base.page_of(ZERO_STEP).max(1);
        let mut written = base.page_offset(pages) as usize;
        let mut zeroed = flusher.zeroed;
        // The page behind the batch as well, where the mark goes.
        if end >= zeroed {
            zeroed = (zeroed.max(end + 1) + step).min(flusher.journal.pages);
            let ahead = base.page_offset(zeroed - flusher.used) as usize;
            // Space first: a disk that is full says so here, where nothing is lost by it.
            let zeros = base.buffer(ahead)?;
            base.platform.write(place, &zeros)?;
            if sync {
                written = ahead;
            }
        }
        batch.resize(written, 0);
        if mutant::is(Mutant::PageRewritten) && flusher.used > 0 {
            let mut before = Vec::from(base.page_buffer()?);
            let place = place - base.page_size();
            base.platform.read(place, &mut before)?;
            base.platform.write(place, &before)?;
        }
        let pending = flusher.sequence > flusher.durable_sequence && !mutant::is(Mutant::KernelGap);
        let result = if !sync {
            base.platform.write(place, &batch)
        } else if pending {
            // I3: batches that only the kernel has must not become a gap before this one.
            *syncs += 1;
            base.platform.write(place, &batch).and_then(|()| base.platform.sync())
        } else {
            *syncs += 1;
            match base.platform.write_sync(place, &batch) {
                Err(_) if mutant::is(Mutant::SyncRetried) => base.platform.sync(),
                result => result,
            }
        };
        result.map_err(|cause| self.poison(cause))?;
        flusher.used = end;
        flusher.zeroed = zeroed;
        flusher.sequence += 1;
        if sync {
            let Flusher { store_id, salt, sequence, .. } = *flusher;
            let mark = Mark { store_id, salt, sequence }.encode();
            let place = base.page_offset(flusher.journal.start + end);
            base.platform.write(place, &mark).map_err(|cause| self.poison(cause))?;
        }
        Ok(written as u64)
    }

    pub(crate) fn sync_or_poison(&self) -> Result<()> {
        match self.base.platform.sync() {
            Err(_) if mutant::is(Mutant::SyncRetried) => self.sync_or_poison(),
            result => result.map_err(|cause| self.poison(cause)),
        }
    }

    /// F6: what the flush wrote is part of the store's state now.
    fn settle(&self, capture: &Capture<P>, plan: Plan, durable: bool) {
        let base = &self.base;
        let drained = plan == Plan::Small && capture.drained_pages().next().is_some();
        if (drained || capture.has_images()) && !mutant::is(Mutant::LeftUnmarked) {
            // I12: also if the region has left the extent meanwhile, its places have entries now.
            capture.mark_journaled();
        }
        let Some(slot) = self.slots.get(capture.index) else { return };
        let mut state = slot.lock();
        if state.id != capture.id {
            return;
        }
        if capture.removed {
            drop(state);
            self.vacate(capture.index);
            return;
        }
        let len = state.len;
        let live = state.live(base);
        if !live.lives_in(&capture.extent) {
            return; // The region has moved on, and all of it is dirty in its new place.
        }
        let mut put_later = false;
        for captured in &capture.pages {
            match captured.fate {
                Fate::Placed => live.page_is_in_place(base, captured),
                Fate::Inlined | Fate::Carried => {
                    live.set_journaled(captured.page);
                    put_later = true;
                }
            }
        }
        if plan == Plan::Small {
            for number in capture.drained_pages() {
                live.set_journaled(number);
            }
        }
        if durable {
            // P1: the floor falls to what is durable now.
            live.floor = match mutant::is(Mutant::FloorInBytes) {
                true => capture.len & !(base.page_size() - 1),
                false => base.page_up(capture.len),
            };
            if live.tail.is_empty() && !live.spilling {
                live.reset_tail_base(base, len);
            }
        }
        if put_later && !live.queued {
            live.queued = true;
            self.overlaid.lock().push(capture.index);
        }
    }

    /// Drops what is in memory for a region that is at rest.
    pub(crate) fn rest(&self, state: &mut crate::state::State<P>) {
        let len = state.len;
        if let Some(live) = &mut state.live {
            if live.is_idle(&self.base, len) {
                self.base.sub_memory(live.tail.capacity());
                state.live = None;
            }
        }
    }

    /// Frees the slot of a region whose removal was written.
    pub(crate) fn vacate(&self, index: u32) {
        let mut table = self.table.write();
        if let Some(slot) = self.slots.get(index) {
            *slot.lock() = crate::state::State::vacant();
            table.free_slot(index);
        }
    }

    /// Makes dirty again what a flush captured and could not write.
    fn restore(&self, captures: &[Capture<P>]) {
        self.dirty.lock().cut_open = false;
        for capture in captures {
            let Some(slot) = self.slots.get(capture.index) else { continue };
            let mut state = slot.lock();
            if state.id == capture.id {
                self.touch(capture.index, &mut state);
                state.restore(&self.base, capture);
            }
        }
    }

    /// F8: the first failure is final.
    pub(crate) fn poison(&self, cause: PlatformError) -> Error {
        self.set_poisoned(cause.clone());
        Error::Poisoned { cause }
    }
}

/// How a flush is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Small,
    Large,
    Checkpoint,
}
