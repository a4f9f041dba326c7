//! Generations: the checkpoint flush (F5), and the confirmation that follows recovery (R4).
//!
//! A generation is a superblock slot, the checkpoint that it names, and a journal that begins empty.
//! Generation g+1 is built beside generation g, in free space, and takes over in three steps, each
//! ended by a sync: everything it names; its slot; and the *proof*, an empty first batch, which
//! shows to every later recovery that the slot was durable. Until the proof is durable nothing of
//! generation g is given up (I5).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::capture::{Capture, CapturedPage, Fate};
use crate::checkpoint::CheckpointWriter;
use crate::copy::Original;
use crate::error::{Error, Result};
use crate::flush::{FlushReport, Flusher};
use crate::ground::Taken;
use crate::journal::BatchWriter;
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::reader::{Reader, Snap};
use crate::run::{FIRST_PAGE, Run, max_pages};
use crate::space::Space;
use crate::spill::write_pieces;
use crate::state::Dirty;
use crate::store::Inner;
use crate::superblock::{MAX_GENERATION, Superblock, salt_of};
use crate::table::NameRef;
use crate::usage::Counters;

/// The journal is zeroed this far before its generation begins, in bytes.
const ZEROED_AT_START: u64 = 256 << 10;

/// A row of the region table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) name: NameRef,
    pub(crate) run: Run,
    pub(crate) len: u64,
}

impl<P: Platform> Inner<P> {
    /// Writes the state at `cut` as a new generation. `captures` are the regions that changed;
    /// the others are visited here. With `confirming`, every page in memory is carried, and the
    /// rules of R4 and R5 say which slot is written.
    pub(crate) fn checkpoint(
        &self,
        flusher: &mut Flusher,
        cut: u64,
        captures: &mut Vec<Capture<P>>,
        confirming: bool,
        mut originals: Option<&mut Vec<Original<P>>>,
    ) -> Result<FlushReport> {
        let base = &self.base;
        let regions = captures.len() as u64;
        let mut rows = self.visit_the_rest(cut, captures, originals.as_deref_mut());
        self.dirty.lock().cut_open = false;
        if let Some(originals) = originals {
            for capture in captures.iter().filter(|capture| !capture.removed) {
                originals.extend(self.original(capture));
            }
        }
        for capture in captures.iter_mut() {
            self.decide(flusher, capture, confirming);
            if !capture.removed {
                let Capture { id, name, run, len, .. } = *capture;
                rows.push(Row { id, name, run, len });
            }
        }
        rows.sort_unstable_by_key(|row| (row.run.start, row.id));

        let generation = match &flusher.unconfirmed {
            Some(unconfirmed) => unconfirmed.highest_generation + 1,
            None => flusher.generation + 1,
        };
        if generation > MAX_GENERATION {
            return Err(Error::TooLarge {
                what: "generations of a store",
                requested: generation,
                limit: MAX_GENERATION,
            });
        }
        let salt = salt_of(flusher.store_id, generation);
        let encoded = self.encode_checkpoint(flusher.store_id, generation, salt, &rows, captures);
        if mutant::is(Mutant::OldFreedEarly) && !confirming {
            self.give_back(core::mem::take(&mut flusher.checkpoint));
            self.give_back(core::mem::take(&mut flusher.journal));
        }
        let taken = self.allocate_generation(encoded.len() as u64, generation == 1)?;
        let (checkpoint, journal) = (taken.0.run(), taken.1.run());

        // Step 1: everything that the slot will name. An error poisons nothing, because nothing
        // names any of it yet.
        // (Recovery relies on the very first one writing nothing but its checkpoint.)
        let zeroed = match generation {
            1 => 0,
            _ => base.pages(ZEROED_AT_START).min(journal.pages),
        };
        let mut report =
            FlushReport { generation, regions, checkpoint: true, ..Default::default() };
        let written = self
            .grow_for_all()
            .and_then(|()| match mutant::is(Mutant::PlacedLate) {
                true => Ok(0),
                false => self.place(captures),
            })
            .and_then(|placed| {
                write_pieces(base, checkpoint, 0, &encoded)?;
                write_pieces(base, journal, 0, &base.buffer(base.page_offset(zeroed) as usize)?)?;
                Ok(placed)
            });
        report.bytes += written?;
        report.bytes += encoded.len() as u64 + base.page_offset(zeroed);
        if !mutant::is(Mutant::CheckpointNotSynced) {
            self.sync_or_poison()?;
        }
        if mutant::is(Mutant::PlacedLate) {
            self.place(captures)?;
        }

        // Step 2: the slot, on the page that does not hold the last proven generation.
        let slot = match &flusher.unconfirmed {
            Some(unconfirmed) => unconfirmed.next_slot,
            None => 1 - flusher.slot,
        };
        let slot = if mutant::is(Mutant::OneSlot) { 0 } else { slot };
        let superblock = Superblock {
            page_size: base.page_size() as u32,
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
            store_id: flusher.store_id,
            generation,
            salt,
            checkpoint,
            checkpoint_len: encoded.len() as u64,
            journal,
            superseded: 0,
        };
        let mut page = superblock.encode_page();
        if generation == 1 {
            // Slot B gets its space together with slot A, so that a full disk shows now, when there
            // is nothing to lose, and not when generation 2 is written.
            page.resize(base.page_offset(FIRST_PAGE) as usize, 0);
        }
        base.platform
            .write_sync(base.page_offset(slot), &page)
            .map_err(|cause| self.poison(cause))?;
        report.bytes += page.len() as u64;

        // Step 3: the proof.
        let (old_checkpoint, old_journal) = (flusher.checkpoint, flusher.journal);
        let next_id = self.table.read().next_id;
        flusher.generation = generation;
        flusher.salt = salt;
        flusher.slot = slot;
        flusher.checkpoint = checkpoint;
        flusher.journal = journal;
        flusher.used = 0;
        flusher.zeroed = zeroed;
        flusher.sequence = 0;
        flusher.durable_sequence = 0;
        let size = base.page_size() as u32;
        let proof = BatchWriter::new(flusher.store_id, salt, 1, 0, next_id, size).finish();
        report.syncs += 2;
        if !mutant::is(Mutant::NoProof) {
            report.bytes += self.append_batch(flusher, proof, true, &mut report.syncs)?;
        }
        flusher.durable_sequence = flusher.sequence;
        if let Some(written) = flusher.slots.get_mut(slot as usize) {
            *written = Some(superblock);
        }
        self.supersede(flusher, 1 - slot)?;
        flusher.written_cut = cut;
        flusher.durable_cut = cut;
        flusher.checkpoint_cut = cut;
        flusher.unconfirmed = None;

        taken.0.keep();
        taken.1.keep();
        // Only now is generation g given up.
        for capture in captures.iter() {
            self.settle_checkpoint(capture, cut);
        }
        if confirming {
            self.rebuild_ground(&rows, checkpoint, journal);
        } else {
            self.give_back(old_checkpoint);
            self.give_back(old_journal);
        }
        self.release(cut, cut);
        self.rebuild_names();
        Ok(report)
    }

    /// Says in the other slot that its generation has had its day. Without a sync: a crash that loses
    /// it finds the new slot and its proof, which are durable. But who loses the new slot later, to a
    /// device that forgets, learns here that the old one must not be believed.
    fn supersede(&self, flusher: &mut Flusher, slot: u64) -> Result<()> {
        let by = flusher.generation;
        let Some(old) = flusher.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        if old.generation >= by {
            return Ok(());
        }
        old.superseded = by;
        let page = old.encode_page();
        let place = self.base.page_offset(slot);
        self.base.platform.write(place, &page).map_err(|cause| self.poison(cause))
    }

    /// Looks at every region that the flush has not seen yet: those at rest become rows, those in
    /// use are captured.
    fn visit_the_rest(
        &self,
        cut: u64,
        captures: &mut Vec<Capture<P>>,
        mut originals: Option<&mut Vec<Original<P>>>,
    ) -> Vec<Row> {
        let slots = self.table.read().slots();
        let mut rows = Vec::new();
        for index in 0..slots {
            let Some(slot) = self.slots.get(index) else { continue };
            let mut state = slot.lock();
            if state.id == 0 {
                continue;
            }
            let Some(live) = state.live.as_deref_mut() else {
                let (id, name, len) = (state.id, state.name, state.len);
                rows.push(Row { id, name, run: state.run, len });
                if let Some(originals) = &mut originals {
                    let snap = state.snap(&self.base);
                    // The capture that a writer makes from now on is of a state already seen.
                    state.live(&self.base).visited = cut;
                    drop(state);
                    let reader = Reader::new(snap, id, len);
                    let name = String::from(self.table.read().name(name));
                    originals.push(Original { name, id, reader });
                }
                continue;
            };
            if let Some((number, capture)) = live.captured.take() {
                if number == cut {
                    captures.push(*capture);
                    continue;
                }
            }
            // Visited: captured already, or created after the cut.
            if live.visited < cut {
                captures.push(state.capture(&self.base, index, cut, |n| self.allocate_at_cut(n)));
            }
        }
        rows
    }

    /// A reader of a region as it was captured.
    fn original(&self, capture: &Capture<P>) -> Option<Original<P>> {
        let mut state = self.slots.get(capture.index)?.lock();
        let snap = Snap::of_capture(&self.base, capture);
        let live = state.live(&self.base);
        if live.lives_in(&capture.extent) {
            // I11: nobody may write to the places that this reader maps. Since the cut nobody has:
            // all pages below the captured end are below the floor, and puts wait for this flush.
            live.old_snaps.push(Arc::downgrade(&snap));
        }
        drop(state);
        let name = String::from(self.table.read().name(capture.name));
        let reader = Reader::new(snap, capture.id, capture.len);
        Some(Original { name, id: capture.id, reader })
    }

    /// F5: which pages of a captured region go to their places, and which into the checkpoint.
    fn decide(&self, flusher: &Flusher, capture: &mut Capture<P>, confirming: bool) {
        for page in &mut capture.pages {
            let place = page.fresh && !page.blocked && !confirming;
            let place = place || (page.fresh && mutant::is(Mutant::BlockedPlaced));
            page.fate = if place { Fate::Placed } else { Fate::Carried };
        }
        let dirty: Vec<u64> = capture.pages.iter().map(|page| page.page).collect();
        let Some(slot) = self.slots.get(capture.index) else { return };
        let state = slot.lock();
        let here = state.live.as_ref().filter(|live| live.lives_in(&capture.extent));
        for (number, page) in capture.all.iter() {
            let Some(bytes) = &page.bytes else { continue };
            if dirty.binary_search(&number).is_ok() {
                continue;
            }
            let durable = page.journaled
                && (page.cut <= flusher.durable_cut || mutant::is(Mutant::KernelImagePut));
            let confirming = confirming && !mutant::is(Mutant::OpenPutsEarly);
            // If the region has moved on, nobody knows any more who maps its old extent.
            let unmapped = here.is_some_and(|live| !live.is_mapped(number))
                || mutant::is(Mutant::BlockedPlaced);
            let place = durable && unmapped && !confirming;
            capture.pages.push(CapturedPage {
                page: number,
                bytes: bytes.clone(),
                dirty: Dirty::CLEAN,
                journaled: page.journaled,
                fresh: false,
                blocked: !unmapped,
                fate: if place { Fate::Placed } else { Fate::Carried },
            });
        }
    }

    fn encode_checkpoint(
        &self,
        store_id: u128,
        generation: u64,
        salt: u64,
        rows: &[Row],
        captures: &[Capture<P>],
    ) -> Vec<u8> {
        let base = &self.base;
        let table = self.table.read();
        let size = base.page_size() as u32;
        let mut writer = CheckpointWriter::new(store_id, generation, salt, size, table.next_id);
        for row in rows {
            writer.region(row.id, table.name(row.name), row.run, row.len);
        }
        drop(table);
        let mut carried: Vec<(u64, &[u8])> = Vec::new();
        for capture in captures {
            let nothing = mutant::is(Mutant::NothingCarried);
            let carry = |page: &&CapturedPage| page.fate == Fate::Carried && !nothing;
            for page in capture.pages.iter().filter(carry) {
                let start = base.page_offset(page.page);
                let used = base.page_size().min(capture.len.saturating_sub(start)) as usize;
                let image = page.bytes.get(..used).unwrap_or_default();
                if !image.is_empty() {
                    carried.push((capture.run.start + page.page, image));
                }
            }
        }
        carried.sort_unstable_by_key(|(page, _)| *page);
        Counters::add(&self.counters.pages_carried, carried.len());
        for (page, image) in carried {
            writer.page(page, image);
        }
        writer.finish()
    }

    fn allocate_generation(&self, len: u64, first: bool) -> Result<(Taken<'_, P>, Taken<'_, P>)> {
        let base = &self.base;
        let pages = base.pages(len);
        let journal_pages = base.pages(self.journal_size.max(len)).max(4);
        if first {
            // Recovery knows that the first checkpoint is on page 2, and the first journal on page 3.
            let checkpoint = self.allocate_lowest(1)?;
            return Ok((checkpoint, self.allocate_lowest(journal_pages)?));
        }
        // The larger one first, so that the smaller one does not take a part of its hole.
        let journal = self.allocate_lowest(journal_pages)?;
        Ok((self.allocate_lowest(pages)?, journal))
    }

    /// F6 for a checkpoint: only carried pages are journaled in the new generation.
    fn settle_checkpoint(&self, capture: &Capture<P>, cut: u64) {
        let base = &self.base;
        if capture.has_images() {
            capture.mark_journaled(); // I12, as in a batch.
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
            return;
        }
        let fates: BTreeMap<u64, &CapturedPage> =
            capture.pages.iter().map(|page| (page.page, page)).collect();
        let numbers: Vec<u64> = live.pages.iter().map(|(number, _)| number).collect();
        live.journaled_end = 0;
        if let Some(extent) = &live.extent {
            extent.set_journaled(capture.has_images());
        }
        for number in numbers {
            let Some(page) = live.pages.get_mut(number) else { continue };
            if mutant::is(Mutant::BitSurvives) {
                continue;
            }
            page.journaled = false;
            match fates.get(&number) {
                Some(captured) if captured.fate == Fate::Placed => {
                    live.page_is_in_place(base, captured);
                }
                _ if page.bytes.is_none() => {
                    live.pages.remove(number);
                }
                _ => {}
            }
        }
        for page in capture.pages.iter().filter(|page| page.fate == Fate::Carried) {
            live.set_journaled(page.page);
            if let Some(page) = live.pages.get_mut(page.page) {
                page.cut = cut;
            }
        }
        live.floor = base.page_up(capture.len);
        if live.tail.is_empty() && !live.spilling {
            live.reset_tail_base(base, len);
        }
        if !live.pages.is_empty() && !live.queued {
            live.queued = true;
            self.overlaid.lock().push(capture.index);
        }
    }

    /// After the confirmation, free is what nothing of the confirmed state uses.
    fn rebuild_ground(&self, rows: &[Row], checkpoint: Run, journal: Run) {
        let mut used: Vec<Run> =
            rows.iter().map(|row| row.run).filter(|run| !run.is_empty()).collect();
        used.push(checkpoint);
        used.push(journal);
        used.sort_unstable_by_key(|run| run.start);
        let space = Space::from_used(FIRST_PAGE, used);
        assert!(space.is_ok(), "I12: confirmed extents overlap");
        let limit = max_pages(self.base.page_size() as u32);
        self.ground.lock().space = space.unwrap_or_default().with_limit(limit);
    }

    /// Gathers the names when most of what is kept of them is of regions long gone.
    fn rebuild_names(&self) {
        let mut table = self.table.write();
        // A capture refers to names by their place: none may be waiting for a flush.
        if !table.wants_rebuild() {
            return;
        }
        for (index, name) in table.rebuild() {
            if let Some(slot) = self.slots.get(index) {
                let mut state = slot.lock();
                if let Some(live) = state.live.as_deref_mut() {
                    live.captured = None;
                }
                state.name = name;
            }
        }
    }

    /// R4: makes the recovered state a generation of its own, before anything changes.
    pub(crate) fn confirm(&self, flusher: &mut Flusher) -> Result<()> {
        // Nothing has changed, so the cut needs to wait for nobody.
        let Some((cut, _)) = self.end_epoch(true) else { return Ok(()) };
        let (space, file_len) = match &flusher.unconfirmed {
            Some(unconfirmed) if mutant::is(Mutant::OpenFreesEarly) => {
                let (mut used, ..) = self.runs();
                used.extend([flusher.checkpoint, flusher.journal]);
                used.sort_unstable_by_key(|run| run.start);
                let space = Space::from_used(FIRST_PAGE, used);
                (space.unwrap_or_default(), unconfirmed.file_len)
            }
            Some(unconfirmed) => (unconfirmed.space(), unconfirmed.file_len),
            None => return Ok(()),
        };
        {
            let mut ground = self.ground.lock();
            ground.space = space;
            ground.file_len = file_len;
        }
        // I8, I9: the length as well may be in the cache only, if a sync failed before the store was
        // opened; and what does not change it again does not make it durable. So it is changed.
        let lengthened = match mutant::is(Mutant::LengthBelieved) {
            true => Ok(()),
            false => self.grow_to(self.base.pages(file_len) + 1),
        };
        let mut captures = Vec::new();
        let result =
            lengthened.and_then(|()| self.checkpoint(flusher, cut, &mut captures, true, None));
        self.dirty.lock().cut_open = false;
        flusher.last = result?;
        self.count(&flusher.last);
        self.cut_to(file_len)?;
        Ok(())
    }
}
