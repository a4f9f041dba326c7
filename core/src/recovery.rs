//! Recovery: what a store's bytes say, and nothing that they do not say (I4).
//!
//! Recovery reads both slots, takes the best one whose checkpoint reads (R1), and applies the
//! longest valid run of batches (R2). It writes nothing (R3): a store opened read-only ends here,
//! and the first change of one opened for writing begins with the [confirmation](crate::generation)
//! of what was found (R4).
//!
//! Everything here comes from the file and is checked: any bytes give a state or an error, with
//! memory bounded by what the file has (I13).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::checkpoint::Checkpoint;
use crate::error::{Damage, Error, Result};
use crate::generation::Row;
use crate::journal::{self, Batch, BatchDefect, BatchHeader, Entry, Mark};
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::run::{FIRST_PAGE, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Run, max_pages};
use crate::space::Space;
use crate::superblock::{self, SlotDefect, Superblock};
use crate::table::{NameRef, Table};

/// What is known between recovery and confirmation.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// The highest generation that any slot shows, believed or not.
    pub(crate) highest_generation: u64,
    /// R5: the slot page that the confirmation writes.
    pub(crate) next_slot: u64,
    pub(crate) file_len: u64,
    /// Every run that any prefix of the batches names, and whatever else must not be written yet.
    named: Vec<Run>,
    page_size: u32,
}

impl Unconfirmed {
    /// The pages that are free until the confirmation is durable.
    pub(crate) fn space(&self) -> Space {
        let mut named = self.named.clone();
        named.sort_unstable_by_key(|run| run.start);
        let mut used: Vec<Run> = Vec::with_capacity(named.len());
        for run in named {
            match used.last_mut() {
                Some(last) if run.start <= last.end() => {
                    last.pages = last.pages.max(run.end() - last.start);
                }
                _ => used.push(run),
            }
        }
        let end = used.last().map_or(FIRST_PAGE, Run::end);
        Space::from_used(FIRST_PAGE, used)
            .unwrap_or_else(|_| Space::new(end))
            .with_limit(max_pages(self.page_size))
    }
}

/// A store as its bytes tell it.
pub(crate) struct Recovered {
    pub(crate) superblock: Superblock,
    /// The slot page that the superblock was found in.
    pub(crate) slot: u64,
    /// What both slot pages say.
    pub(crate) slots: [Option<Superblock>; 2],
    /// The newest valid batch, and the pages of the journal up to its end.
    pub(crate) sequence: u64,
    pub(crate) used: u64,
    pub(crate) rows: Vec<Row>,
    /// Names, not entered for any region yet.
    pub(crate) table: Table,
    /// Images of pages, by place, that the journal and the checkpoint hold.
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
    pub(crate) unconfirmed: Unconfirmed,
}

/// Both slots, as they read.
struct Slots {
    found: Vec<(u64, Superblock)>,
    defects: Vec<SlotDefect>,
}

pub(crate) fn recover<P: Platform>(platform: &P) -> Result<Recovered> {
    let file_len = platform.len()?;
    let slots = read_slots(platform, file_len)?;
    let (slot, best) = match slots.found.as_slice() {
        [] => return Err(no_slot(platform, file_len, &slots.defects)?),
        [only] => *only,
        [a, b, ..] => {
            if a.1.store_id != b.1.store_id {
                return Err(damage("store id of slot B", b.0, a.1.store_id, b.1.store_id));
            }
            if a.1.generation >= b.1.generation { *a } else { *b }
        }
    };
    let highest_generation = best.generation;
    if best.superseded != 0 {
        let (expected, found) = (best.superseded.into(), best.generation.into());
        return Err(damage("newest superblock", 1 - slot, expected, found));
    }
    let other = slots.found.iter().find(|(page, _)| *page != slot).copied();
    // The other slot may know that this one was proven, and must not be gone back to then.
    let superseded = other.is_some_and(|(_, other)| other.superseded == best.generation);
    let other = other.filter(|(_, other)| other.superseded == 0);
    let reader = Reader { platform, file_len };
    // R1: a slot whose checkpoint does not read was never proven, or is damaged.
    let (slot, superblock, mut state, other) = match reader.checkpoint(&best)? {
        Ok(state) => (slot, best, state, other),
        Err(unreadable) => {
            // What a slot names was durable, the length included, before it was written (I2), and is
            // cut off only when a later one is proven.
            let cut =
                file_len < best.checkpoint.end().max(best.journal.end()) * size_of_page(&best);
            let proven = superseded || reader.has_batch(&best, 0, 1)?;
            let first = best.generation == 1 && slots.found.len() == 1 && !proven && !cut;
            if first && is_unfinished(platform, file_len, best.page_size)? {
                return Err(Error::Unfinished);
            }
            let Some((slot, superblock)) = other.filter(|_| !proven && !cut) else {
                return Err(Error::Damaged(unreadable));
            };
            if mutant::is(Mutant::NoFallback) {
                return Err(Error::Damaged(unreadable));
            }
            let state = reader.checkpoint(&superblock)?.map_err(Error::Damaged)?;
            (slot, superblock, state, None)
        }
    };
    let (sequence, used) = reader.replay(&superblock, &mut state)?;
    reader.check_gap(&superblock, sequence, used)?;
    if sequence == 0 && superseded {
        return Err(damage("proof of the generation", superblock.journal.start, 1, 0));
    }
    let mut other_reads = false;
    if sequence == 0 || (sequence == 1 && !mutant::is(Mutant::ProofBelieved)) {
        // H20: the proof may be in the cache and not on the disk: keep what the other slot names.
        if let Some((_, other)) = &other {
            if let Ok(mut before) = reader.checkpoint(other)? {
                other_reads = true;
                if reader.replay(other, &mut before).is_ok() {
                    state.named.append(&mut before.named);
                }
            }
        }
    }
    let own_slot = match () {
        () if mutant::is(Mutant::WrongSlot) => false,
        () if mutant::is(Mutant::OwnSlot) => true,
        () => sequence == 0 && other_reads,
    };
    let State { table, mut rows, pages, named, .. } = state;
    check_rows(&superblock, &mut rows, &pages, file_len)?;
    check_ids(&rows, table.next_id)?;
    Ok(Recovered {
        superblock,
        slot,
        slots: [0, 1].map(|page| {
            slots.found.iter().find(|(found, _)| *found == page).map(|(_, superblock)| *superblock)
        }),
        sequence,
        used,
        rows,
        table,
        pages,
        unconfirmed: Unconfirmed {
            highest_generation,
            next_slot: if own_slot { slot } else { 1 - slot },
            file_len,
            named,
            page_size: superblock.page_size,
        },
    })
}

fn size_of_page(superblock: &Superblock) -> u64 {
    superblock.page_size.into()
}

fn damage(what: &'static str, page: u64, expected: u128, found: u128) -> Error {
    Error::Damaged(Damage {
        what,
        region: None,
        offset: page * u64::from(MIN_PAGE_SIZE),
        expected: expected as u64,
        found: found as u64,
    })
}

fn read_at<P: Platform>(platform: &P, file_len: u64, offset: u64, len: u64) -> Result<Vec<u8>> {
    let len = len.min(file_len.saturating_sub(offset));
    let size = usize::try_from(len).map_err(|_| Error::OutOfMemory { requested: len })?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::OutOfMemory { requested: len })?;
    bytes.resize(size, 0);
    if size > 0 {
        platform.read(offset, &mut bytes)?;
    }
    Ok(bytes)
}

fn page_sizes() -> impl Iterator<Item = u32> {
    core::iter::successors(Some(MIN_PAGE_SIZE), |size| (*size < MAX_PAGE_SIZE).then(|| size * 2))
}

fn read_slots<P: Platform>(platform: &P, file_len: u64) -> Result<Slots> {
    let mut slots = Slots { found: Vec::new(), defects: Vec::new() };
    let first = read_at(platform, file_len, 0, u64::from(MIN_PAGE_SIZE))?;
    match Superblock::decode_page(&first) {
        Ok(found) if found.page_size > MIN_PAGE_SIZE => {
            let whole = read_at(platform, file_len, 0, u64::from(found.page_size))?;
            slots.found.push((0, Superblock::decode_page(&whole).unwrap_or(found)));
        }
        Ok(found) => slots.found.push((0, found)),
        Err(defect) => slots.defects.push(defect),
    }
    let known = slots.found.first().map(|(_, found)| found.page_size);
    for size in page_sizes().filter(|size| known.is_none_or(|known| known == *size)) {
        let page = read_at(platform, file_len, size.into(), size.into())?;
        match Superblock::decode_page(&page) {
            Ok(found) if found.page_size == size => {
                slots.found.push((1, found));
                break;
            }
            Ok(_) => {}
            Err(defect) => slots.defects.push(defect),
        }
    }
    for defect in &slots.defects {
        if let SlotDefect::Newer { version, features } = defect {
            return Err(Error::Newer {
                version: *version,
                supported: superblock::VERSION,
                features: *features,
            });
        }
    }
    Ok(slots)
}

/// Says why there is no slot to start from.
fn no_slot<P: Platform>(platform: &P, file_len: u64, defects: &[SlotDefect]) -> Result<Error> {
    let head = read_at(platform, file_len, 0, 8)?;
    let mut found = [0; 8];
    found.iter_mut().zip(&head).for_each(|(to, from)| *to = *from);
    for size in page_sizes().map(u64::from) {
        // Creation puts the first journal on page 3. A batch there means that the store once was
        // whole, so that this is not an unfinished creation.
        let proof = read_at(platform, file_len, 3 * size, journal::HEADER_LEN as u64)?;
        if BatchHeader::decode(&proof).is_some() {
            return Ok(damage("superblock", 0, 1, 0));
        }
    }
    for size in page_sizes() {
        if is_unfinished(platform, file_len, size)? {
            return Ok(Error::Unfinished);
        }
    }
    if defects.iter().any(|d| matches!(d, SlotDefect::Checksum { .. } | SlotDefect::Invalid(_))) {
        return Ok(damage("superblock", 0, 1, 0));
    }
    Ok(Error::NotAStore { len: file_len, found })
}

/// Whether all that is there is what an interrupted creation leaves. It writes its checkpoint to
/// page 2 and nothing else, then both slot pages at once, and the first page of the journal when
/// slot A is durable. So all other pages are zeros, and both slots too if the checkpoint is not whole
/// (or slot A is that of an earlier attempt). Anything else may be somebody's data, and is never
/// written over.
fn is_unfinished<P: Platform>(platform: &P, file_len: u64, size: u32) -> Result<bool> {
    /// A longer file was not left by a creation that failed.
    const LONGEST: u64 = 4 << 30;
    if file_len == 0 || file_len > LONGEST {
        return Ok(file_len == 0);
    }
    let size = u64::from(size);
    let slots = read_at(platform, file_len, 0, 2 * size)?;
    let page = read_at(platform, file_len, 2 * size, size)?;
    let blank = slots.iter().all(|byte| *byte == 0);
    let first = || Superblock::decode_page(&slots).is_ok_and(|slot| slot.generation == 1);
    if !blank && !Checkpoint::is_of_new_store(&page) && !first() {
        return Ok(false);
    }
    let mut at = 3 * size;
    while at < file_len {
        let piece = read_at(platform, file_len, at, 1 << 20)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += 1 << 20;
    }
    Ok(true)
}

/// Where a region is in the table under construction, by id.
type Index = HashMap<u64, usize, FixedState>;

/// The table under construction.
struct State {
    table: Table,
    rows: Vec<Row>,
    /// Where a region is in `rows`; made when a batch first asks.
    by_id: Option<Index>,
    pages: BTreeMap<u64, Vec<u8>>,
    named: Vec<Run>,
}

struct Reader<'a, P: Platform> {
    platform: &'a P,
    file_len: u64,
}

impl<P: Platform> Reader<'_, P> {
    /// Reads the checkpoint that a slot names. The inner error is of its bytes, the outer one of
    /// the machine.
    fn checkpoint(&self, superblock: &Superblock) -> Result<core::result::Result<State, Damage>> {
        let size = superblock.page_size;
        let offset = superblock.checkpoint.offset(size);
        let end = superblock.checkpoint.end().max(superblock.journal.end());
        if self.file_len < end.saturating_mul(size.into()) {
            return Ok(Err(Damage {
                what: "file length",
                region: None,
                offset: self.file_len,
                expected: end.saturating_mul(size.into()),
                found: self.file_len,
            }));
        }
        let bytes = read_at(self.platform, self.file_len, offset, superblock.checkpoint_len)?;
        let checkpoint = match Checkpoint::decode(&bytes, superblock) {
            Ok(checkpoint) => checkpoint,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut state = State {
            table: Table::new(checkpoint.next_id()),
            rows: Vec::new(),
            by_id: None,
            pages: BTreeMap::new(),
            named: Vec::new(),
        };
        let count = checkpoint.region_count() as usize;
        let out_of_memory = |_| Error::OutOfMemory { requested: count as u64 * 48 };
        state.rows.try_reserve_exact(count).map_err(out_of_memory)?;
        state.named.try_reserve_exact(count + 2).map_err(out_of_memory)?;
        state.table.reserve(count, bytes.len().min(count * 16))?;
        state.named.push(superblock.checkpoint);
        state.named.push(superblock.journal);
        let mut regions = checkpoint.regions();
        for record in &mut regions {
            let record = match record {
                Ok(record) => record,
                Err(damage) => return Ok(Err(damage)),
            };
            let name = state.table.intern(record.name)?;
            state.rows.push(Row { id: record.id, name, run: record.run, len: record.len });
            if !record.run.is_empty() {
                state.named.push(record.run);
            }
        }
        let pages = match regions.pages() {
            Ok(pages) => pages,
            Err(damage) => return Ok(Err(damage)),
        };
        for page in pages {
            match page {
                Ok((page, image)) => {
                    state.named.push(Run { start: page, pages: 1 });
                    state.pages.insert(page, image_of(image)?);
                }
                Err(damage) => return Ok(Err(damage)),
            }
        }
        Ok(Ok(state))
    }

    /// The bytes at `page` of the journal that say that they are a batch. Nothing else of them is
    /// checked.
    fn fetch(&self, superblock: &Superblock, page: u64) -> Result<Option<Vec<u8>>> {
        let size = superblock.page_size;
        let left = superblock.journal.pages.saturating_sub(page) * u64::from(size);
        let offset = superblock.journal.offset(size).saturating_add(page * u64::from(size));
        let first = read_at(self.platform, self.file_len, offset, left.min(size.into()))?;
        match BatchHeader::decode(&first) {
            Some(header) if header.len > left => Ok(None),
            Some(header) if header.len > first.len() as u64 => {
                read_at(self.platform, self.file_len, offset, header.len).map(Some)
            }
            Some(_) => Ok(Some(first)),
            None => Ok(None),
        }
    }

    /// Whether the batch with that number is at `page` of the journal, and valid.
    fn has_batch(&self, superblock: &Superblock, page: u64, sequence: u64) -> Result<bool> {
        let bytes = self.fetch(superblock, page)?;
        Ok(bytes.is_some_and(|bytes| decode(&bytes, superblock, sequence).is_ok()))
    }

    /// R2: applies the longest run of valid batches. Answers the number of the last, and how many
    /// pages of the journal they fill.
    fn replay(&self, superblock: &Superblock, state: &mut State) -> Result<(u64, u64)> {
        let size = superblock.page_size;
        let (mut sequence, mut used) = (0, 0);
        while used < superblock.journal.pages {
            let Some(bytes) = self.fetch(superblock, used)? else { break };
            let offset = superblock.journal.offset(size) + used * u64::from(size);
            let Ok(batch) = decode(&bytes, superblock, sequence + 1) else { break };
            let batch = batch.at(offset);
            state.table.next_id = state.table.next_id.max(batch.next_id());
            for entry in batch.entries() {
                state.apply(entry?, offset)?;
            }
            sequence += 1;
            used += batch.len().div_ceil(size.into());
        }
        Ok((sequence, used))
    }

    /// A mark or a batch behind the end of the run that says a missing batch was durable: no crash
    /// does that.
    fn check_gap(&self, superblock: &Superblock, sequence: u64, used: u64) -> Result<()> {
        let size = u64::from(superblock.page_size);
        let Superblock { store_id, salt, journal, .. } = *superblock;
        // Somebody may have made a journal of nothing but headers.
        let mut candidates = 64;
        let end = journal.end().saturating_mul(size);
        let mut offset = (journal.start + used).saturating_mul(size);
        while offset < end {
            let piece =
                read_at(self.platform, self.file_len, offset, (256 << 10).min(end - offset))?;
            if piece.is_empty() {
                break;
            }
            for (page, bytes) in
                ((offset / size - journal.start)..).zip(piece.chunks(size as usize))
            {
                let mark = Mark::decode(bytes)
                    .filter(|mark| mark.store_id == store_id && mark.salt == salt)
                    .map(|mark| mark.sequence);
                let batch = BatchHeader::decode(bytes).filter(|header| {
                    header.store_id == store_id
                        && header.salt == salt
                        && header.sequence > sequence
                        && header.durable > sequence
                });
                let said = match (mark, batch) {
                    (Some(durable), _) => durable,
                    (None, Some(header)) if candidates > 0 => {
                        candidates -= 1;
                        let whole = self.has_batch(superblock, page, header.sequence)?;
                        if whole { header.durable } else { 0 }
                    }
                    _ => 0,
                };
                if said > sequence {
                    return Err(Error::Damaged(Damage {
                        what: "journal batch that was durable",
                        region: None,
                        offset: (journal.start + used) * size,
                        expected: said,
                        found: sequence,
                    }));
                }
            }
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

fn decode<'a>(
    bytes: &'a [u8],
    superblock: &Superblock,
    sequence: u64,
) -> core::result::Result<Batch<'a>, BatchDefect> {
    let Superblock { store_id, salt, page_size, .. } = *superblock;
    Batch::decode(bytes, store_id, salt, sequence, page_size)
}

/// The image of a page, as long as it is stored. What is not stored is zeros.
fn image_of(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    image
        .try_reserve_exact(bytes.len())
        .map_err(|_| Error::OutOfMemory { requested: bytes.len() as u64 })?;
    image.extend_from_slice(bytes);
    Ok(image)
}

impl State {
    fn apply(&mut self, entry: Entry<'_>, offset: u64) -> Result<()> {
        let wrong = |what, id, expected: bool| {
            Error::Damaged(Damage {
                what,
                region: Some(id),
                offset,
                expected: expected.into(),
                found: (!expected).into(),
            })
        };
        match entry {
            Entry::Put { id, created, name, run, len } => {
                let known = self.find(id)?;
                if created == known.is_some() {
                    return Err(wrong("existence of a region in a batch", id, !created));
                }
                let name = match name {
                    Some(name) => Some(self.table.intern(name)?),
                    None => None,
                };
                if let Some(run) = run.filter(|run| !run.is_empty()) {
                    self.named.push(run);
                }
                match known.and_then(|at| self.rows.get_mut(at)) {
                    Some(row) => {
                        row.name = name.unwrap_or(row.name);
                        row.run = run.unwrap_or(row.run);
                        row.len = len.unwrap_or(row.len);
                    }
                    None => {
                        let at = self.rows.len();
                        self.index()?.insert(id, at);
                        self.rows.push(Row {
                            id,
                            name: name.unwrap_or(NameRef::NONE),
                            run: run.unwrap_or_default(),
                            len: len.unwrap_or(0),
                        });
                    }
                }
            }
            Entry::Remove { id } => {
                let Some(at) = self.find(id)? else {
                    return Err(wrong("existence of a region in a batch", id, true));
                };
                self.rows.swap_remove(at);
                let moved = self.rows.get(at).map(|row| row.id);
                let index = self.index()?;
                index.remove(&id);
                if let Some(moved) = moved {
                    index.insert(moved, at);
                }
            }
            Entry::Bytes { page, offset, full: true, data } => {
                debug_assert_eq!(offset, 0);
                self.named.push(Run { start: page, pages: 1 });
                if data.is_empty() {
                    return Err(wrong("image of a page in a batch", 0, true));
                }
                self.pages.insert(page, image_of(data)?);
            }
            Entry::Bytes { page, offset: from, full: false, data } => {
                // I12: the first entry of a page is its full image. Later ones begin inside what was
                // known of the page, or right behind it: so memory is bounded by what was read.
                let start = from as usize;
                let Some(image) = self.pages.get_mut(&page).filter(|image| start <= image.len())
                else {
                    return Err(wrong("first entry of a page in a batch", 0, true));
                };
                let inside = data.len().min(image.len() - start);
                let (over, behind) = data.split_at(inside);
                if let Some(place) = image.get_mut(start..start + inside) {
                    place.copy_from_slice(over);
                }
                image
                    .try_reserve(behind.len())
                    .map_err(|_| Error::OutOfMemory { requested: behind.len() as u64 })?;
                image.extend_from_slice(behind);
            }
        }
        Ok(())
    }

    fn find(&mut self, id: u64) -> Result<Option<usize>> {
        Ok(self.index()?.get(&id).copied())
    }

    fn index(&mut self) -> Result<&mut Index> {
        if self.by_id.is_none() {
            let mut by_id = Index::default();
            by_id
                .try_reserve(self.rows.len())
                .map_err(|_| Error::OutOfMemory { requested: self.rows.len() as u64 * 17 })?;
            for (at, row) in self.rows.iter().enumerate() {
                if by_id.insert(row.id, at).is_some() {
                    return Err(duplicate("id of a region", row.id));
                }
            }
            self.by_id = Some(by_id);
        }
        Ok(self.by_id.get_or_insert_default())
    }
}

pub(crate) fn duplicate(what: &'static str, id: u64) -> Error {
    Error::Damaged(Damage { what, region: Some(id), offset: 0, expected: 1, found: 2 })
}

/// I7: an image of a page holds all the bytes that the region has there.
pub(crate) fn check_image(row: &Row, start: u64, len: usize, page_size: u64) -> Result<()> {
    let expected = page_size.min(row.len - start);
    if expected <= len as u64 {
        return Ok(());
    }
    Err(Error::Damaged(Damage {
        what: "length of the image of a page",
        region: Some(row.id),
        offset: row.run.start.saturating_mul(page_size).saturating_add(start),
        expected,
        found: len as u64,
    }))
}

/// Ids are below the next one, and that is far from the end of its type.
fn check_ids(rows: &[Row], next_id: u64) -> Result<()> {
    let limit = 1 << 63;
    let wrong = |what, region, expected, found| {
        Err(Error::Damaged(Damage { what, region, offset: 0, expected, found }))
    };
    if next_id == 0 || next_id > limit {
        return wrong("next id of a region", None, limit, next_id);
    }
    match rows.iter().find(|row| row.id == 0 || row.id >= next_id) {
        Some(row) => wrong("id of a region", Some(row.id), next_id, row.id),
        None => Ok(()),
    }
}

/// Checks that the regions fit together and are all there, and sorts them by place.
fn check_rows(
    superblock: &Superblock,
    rows: &mut [Row],
    pages: &BTreeMap<u64, Vec<u8>>,
    file_len: u64,
) -> Result<()> {
    let size = u64::from(superblock.page_size);
    if !rows.is_sorted_by_key(|row| row.run.start) {
        rows.sort_unstable_by_key(|row| row.run.start);
    }
    let mut end = FIRST_PAGE;
    for row in rows.iter() {
        let wrong = |what, expected, found| {
            let offset = row.run.start.saturating_mul(size);
            Err(Error::Damaged(Damage { what, region: Some(row.id), offset, expected, found }))
        };
        if row.run.is_empty() {
            if row.len > 0 {
                return wrong("length of a region without an extent", 0, row.len);
            }
            continue;
        }
        if row.run.start < end {
            return wrong("start of an extent", end, row.run.start);
        }
        for reserved in [superblock.checkpoint, superblock.journal] {
            if row.run.overlaps(&reserved) {
                return wrong("start of an extent", reserved.end(), row.run.start);
            }
        }
        end = row.run.end();
        let room = row.run.pages.saturating_mul(size);
        if row.len > room {
            return wrong("length of a region", room, row.len);
        }
        // Bytes past the end of the file must all have been replayed (R2).
        let start = row.run.start.saturating_mul(size);
        let bytes_end = start.saturating_add(row.len);
        if bytes_end > file_len && row.len > 0 {
            let first = row.run.start.max(file_len / size);
            let last = bytes_end.div_ceil(size);
            let there = pages.range(first..last.max(first)).count() as u64;
            if there < last - first {
                return wrong("end of the file", bytes_end, file_len);
            }
        }
    }
    Ok(())
}
