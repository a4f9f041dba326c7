//! Batches: the units of the journal, each the redo log of one flush.
//!
//! [`BatchWriter`] builds one; [`BatchHeader`] tells from its first bytes how much to read, and
//! [`Batch`] checks and reads it without allocating. Where batches lie, and which run of them
//! counts, is the business of the flush and of recovery: a batch knows only its own bytes.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::vec;
use alloc::vec::Vec;

use crate::codec::{self, Input, put_name, put_signed_varint, put_varint};
use crate::error::Damage;
use crate::mutant::{self, Mutant};
use crate::run::{FIRST_PAGE, MAX_REGION_LEN, Run, max_pages};

/// The first bytes of every batch.
const MAGIC: [u8; 8] = *b"allodbat";
/// The length of the header, in bytes: that of a batch without entries.
pub(crate) const HEADER_LEN: usize = 72;

const CRC_AT: usize = HEADER_LEN - 4;
/// No entry takes less: a kind and an id.
const MIN_ENTRY_LEN: u64 = 2;

/// The low three bits of an entry's first byte.
mod kind {
    pub(super) const MASK: u8 = 0x07;
    pub(super) const PUT: u8 = 1;
    pub(super) const REMOVE: u8 = 2;
    pub(super) const RANGE: u8 = 3;
    pub(super) const PAGE: u8 = 4;
}

/// The other bits of a put's first byte.
mod flag {
    pub(super) const CREATED: u8 = 0x08;
    pub(super) const NAME: u8 = 0x10;
    pub(super) const RUN: u8 = 0x20;
    pub(super) const LEN: u8 = 0x40;
    pub(super) const MASK: u8 = CREATED | NAME | RUN | LEN;
}

/// One change that a batch makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// The region comes into being, or takes another name, extent or length.
    Put {
        /// The region's id; below the batch's `next_id`.
        id: u64,
        /// Whether the region is new. It then has a name.
        created: bool,
        /// The name, if it is new; valid.
        name: Option<&'a str>,
        /// The extent, if it is new; empty if the region has none any more.
        run: Option<Run>,
        /// The length in bytes, if it is new. If `run` is given too, it is not more than that has.
        len: Option<u64>,
    },
    /// The region is no more.
    Remove {
        /// The region's id; below the batch's `next_id`.
        id: u64,
    },
    /// Bytes of a page of the file.
    Bytes {
        /// The page.
        page: u64,
        /// Where in the page they start, in bytes; 0 if `full`.
        offset: u32,
        /// Whether they are the image of the whole page, with zeros behind them. If not, the rest
        /// of the page stays as it is.
        full: bool,
        /// The bytes; they end inside the page.
        data: &'a [u8],
    },
}

/// Builds a batch.
#[derive(Debug)]
pub(crate) struct BatchWriter {
    /// The header's place, as zeros, and everything behind it.
    bytes: Vec<u8>,
    store_id: u128,
    salt: u64,
    sequence: u64,
    durable: u64,
    next_id: u64,
    page_size: u32,
    entries: u32,
    last_page: u64,
}

impl BatchWriter {
    /// A batch without entries. `sequence` is its number in the generation, from 1 on; `durable`
    /// the highest number, below it, of a batch that a sync has covered (0 for the checkpoint);
    /// `next_id` the id that the next region gets once the batch is applied.
    pub(crate) fn new(
        store_id: u128,
        salt: u64,
        sequence: u64,
        durable: u64,
        next_id: u64,
        page_size: u32,
    ) -> Self {
        debug_assert!(durable < sequence);
        Self {
            bytes: vec![0; HEADER_LEN],
            store_id,
            salt,
            sequence,
            durable,
            next_id,
            page_size,
            entries: 0,
            last_page: 0,
        }
    }

    /// Adds [`Entry::Put`]. An empty run says that the region has no extent.
    pub(crate) fn put(
        &mut self,
        id: u64,
        created: bool,
        name: Option<&str>,
        run: Option<Run>,
        len: Option<u64>,
    ) {
        debug_assert!(id < self.next_id && (name.is_some() || !created));
        let flags = [
            (created, flag::CREATED),
            (name.is_some(), flag::NAME),
            (run.is_some(), flag::RUN),
            (len.is_some(), flag::LEN),
        ];
        let set = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        self.start(kind::PUT | set);
        put_varint(&mut self.bytes, id);
        if let Some(name) = name {
            put_name(&mut self.bytes, name);
        }
        if let Some(run) = run {
            debug_assert!(
                run.is_empty() || Run::checked(run.start, run.pages, self.page_size).is_some()
            );
            put_varint(&mut self.bytes, run.pages);
            if !run.is_empty() {
                put_varint(&mut self.bytes, run.start);
            }
        }
        if let Some(len) = len {
            debug_assert!(len <= run.map_or(u64::MAX, |run| run.bytes(self.page_size)));
            put_varint(&mut self.bytes, len);
        }
    }

    /// Adds [`Entry::Remove`].
    pub(crate) fn remove(&mut self, id: u64) {
        debug_assert!(id < self.next_id);
        self.start(kind::REMOVE);
        put_varint(&mut self.bytes, id);
    }

    /// Adds [`Entry::Bytes`]. Any order of pages is right; ascending pages make small batches.
    pub(crate) fn bytes(&mut self, page: u64, offset: u32, full: bool, data: &[u8]) {
        debug_assert!((FIRST_PAGE..max_pages(self.page_size)).contains(&page));
        debug_assert!(u64::from(offset) + data.len() as u64 <= u64::from(self.page_size));
        debug_assert!(offset == 0 || !full);
        self.start(if full { kind::PAGE } else { kind::RANGE });
        put_signed_varint(&mut self.bytes, page.wrapping_sub(self.last_page) as i64);
        if !full {
            put_varint(&mut self.bytes, u64::from(offset));
        }
        put_varint(&mut self.bytes, data.len() as u64);
        self.bytes.extend_from_slice(data);
        self.last_page = page;
    }

    fn start(&mut self, first: u8) {
        debug_assert!(self.entries < u32::MAX);
        self.entries = self.entries.saturating_add(1);
        self.bytes.push(first);
    }

    /// The batch, not padded.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&self.store_id.to_le_bytes());
        let len = self.bytes.len() as u64;
        for field in [self.salt, self.sequence, self.durable, self.next_id, len] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&self.entries.to_le_bytes());
        let mut bytes = self.bytes;
        codec::patch(&mut bytes, 0, &header);
        let crc = codec::checksum(&bytes, CRC_AT);
        codec::patch(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }
}

/// What the first bytes of a batch say. Not checked: it serves to know how much to read, and which
/// batch to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The id of the store.
    pub store_id: u128,
    /// The salt of the generation.
    pub salt: u64,
    /// The number of the batch in its generation.
    pub sequence: u64,
    /// The highest number of a batch that was durable when this one was written.
    pub durable: u64,
    next_id: u64,
    /// The length of the batch with its header, in bytes; at least that of the header.
    pub len: u64,
    entries: u32,
    crc: u32,
}

impl BatchHeader {
    /// The header at the start of `first_bytes`, if a magic and a length that can be are there.
    pub(crate) fn decode(first_bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(first_bytes);
        if input.array()? != MAGIC {
            return None;
        }
        let header = Self {
            store_id: input.u128()?,
            salt: input.u64()?,
            sequence: input.u64()?,
            durable: input.u64()?,
            next_id: input.u64()?,
            len: input.u64()?,
            entries: input.u32()?,
            crc: input.u32()?,
        };
        (header.len >= HEADER_LEN as u64).then_some(header)
    }
}

/// What is written behind a batch when it is known to be durable, and before anything is done that
/// relies on it. It is not synced itself, and the next batch takes its place. With it, recovery can
/// tell a batch that was damaged after it had been acknowledged from one that was never whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The id of the store.
    pub store_id: u128,
    /// The salt of the generation.
    pub salt: u64,
    /// The number of the newest batch that is durable.
    pub sequence: u64,
}

const MARK_MAGIC: [u8; 8] = *b"allodack";
const MARK_CRC_AT: usize = 40;

impl Mark {
    /// The length of a mark in bytes.
    pub(crate) const LEN: usize = 44;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend_from_slice(&MARK_MAGIC);
        bytes.extend_from_slice(&self.store_id.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = codec::checksum(&bytes, MARK_CRC_AT);
        codec::patch(&mut bytes, MARK_CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// The mark at the start of `bytes`, if there is a whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.get(..Self::LEN)?;
        let mut input = Input::new(whole);
        if input.array()? != MARK_MAGIC {
            return None;
        }
        let mark = Self { store_id: input.u128()?, salt: input.u64()?, sequence: input.u64()? };
        (input.u32()? == codec::checksum(whole, MARK_CRC_AT)).then_some(mark)
    }
}

/// Why bytes are not the batch that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchDefect {
    /// They do not start with a header.
    None,
    /// The header is of another store, generation or sequence number.
    Foreign,
    /// They are fewer than the header says.
    Short,
    /// The checksum is wrong.
    Checksum,
    /// The checksum is right, but the header says what no writer writes.
    Malformed(&'static str),
}

/// A batch whose header and checksum are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    header: BatchHeader,
    body: &'a [u8],
    page_size: u32,
    offset: u64,
}

impl<'a> Batch<'a> {
    /// The batch of this store, generation and sequence number at the start of `bytes`, which may
    /// be longer than it. Costs one pass for the checksum.
    pub(crate) fn decode(
        bytes: &'a [u8],
        store_id: u128,
        salt: u64,
        sequence: u64,
        page_size: u32,
    ) -> Result<Self, BatchDefect> {
        let header = BatchHeader::decode(bytes).ok_or(BatchDefect::None)?;
        let ours = header.store_id == store_id
            && (header.salt == salt || mutant::is(Mutant::NoSalt))
            && (header.sequence == sequence || mutant::is(Mutant::NoSequence));
        if !ours {
            return Err(BatchDefect::Foreign);
        }
        let whole = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
        let whole = whole.ok_or(BatchDefect::Short)?;
        let body = whole.get(HEADER_LEN..).ok_or(BatchDefect::None)?;
        if codec::checksum(whole, CRC_AT) != header.crc && !mutant::is(Mutant::NoChecksum) {
            return Err(BatchDefect::Checksum);
        }
        if header.durable >= header.sequence {
            return Err(BatchDefect::Malformed("durable sequence number"));
        }
        if u64::from(header.entries) > body.len() as u64 / MIN_ENTRY_LEN {
            return Err(BatchDefect::Malformed("entry count"));
        }
        Ok(Self { header, body, page_size, offset: 0 })
    }

    /// The same batch, knowing where in the store it starts (in bytes), so that [`Damage`] in it
    /// says a place in the store and not in the batch.
    #[must_use]
    pub(crate) fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The id that the next region gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.header.next_id
    }

    /// The length with the header and without padding, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.header.len
    }

    /// The entries, in the order in which they apply.
    pub(crate) fn entries(&self) -> Entries<'a> {
        Entries {
            input: Input::new(self.body),
            end: self.offset.saturating_add(self.header.len),
            page_size: self.page_size,
            next_id: self.header.next_id,
            count: self.header.entries,
            left: Some(self.header.entries),
            last_page: 0,
        }
    }
}

/// The entries of a batch, in order. Ends behind the first damage. Bytes behind the last entry are
/// damage.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    input: Input<'a>,
    /// Where the batch ends in the store, in bytes.
    end: u64,
    page_size: u32,
    next_id: u64,
    count: u32,
    /// `None` once the end, or damage, was told.
    left: Option<u32>,
    last_page: u64,
}

/// What is wrong with an entry: what, the region, expected, found.
type Wrong = (&'static str, Option<u64>, u64, u64);

impl<'a> Entries<'a> {
    fn offset(&self) -> u64 {
        self.end.saturating_sub(self.input.remaining() as u64)
    }

    fn read(&mut self, left: u32) -> Result<Entry<'a>, Wrong> {
        // What an entry that the bytes cut off, or a number that is none, is reported as: how many
        // entries there should be, and how many there are before it.
        let cut = ("journal entry", None, self.count.into(), (self.count - left).into());
        let first = self.input.u8().ok_or(cut)?;
        match first & kind::MASK {
            kind::PUT if first & !(kind::MASK | flag::MASK) == 0 => self.put(first, cut),
            kind::REMOVE if first == kind::REMOVE => {
                Ok(Entry::Remove { id: self.id().ok_or(cut)?? })
            }
            kind::RANGE | kind::PAGE if first & !kind::MASK == 0 => self.bytes(first, cut),
            _ => Err(("journal entry kind", None, kind::PAGE.into(), first.into())),
        }
    }

    fn id(&mut self) -> Option<Result<u64, Wrong>> {
        let id = self.input.varint()?;
        let known = id < self.next_id;
        Some(if known { Ok(id) } else { Err(("journal region id", Some(id), self.next_id, id)) })
    }

    fn put(&mut self, first: u8, cut: Wrong) -> Result<Entry<'a>, Wrong> {
        let has = |flag| first & flag != 0;
        let id = self.id().ok_or(cut)??;
        let created = has(flag::CREATED);
        let (mut name, mut run, mut len) = (None, None, None);
        if has(flag::NAME) {
            let (count, before) = (cut.2, cut.3);
            name =
                Some(self.input.name().ok_or(("journal region name", Some(id), count, before))?);
        } else if created {
            let required = u64::from(flag::CREATED | flag::NAME);
            return Err(("journal creation without a name", Some(id), required, first.into()));
        }
        let mut limit = MAX_REGION_LEN;
        if has(flag::RUN) {
            let pages = self.input.varint().ok_or(cut)?;
            let mut extent = Run::default();
            if pages > 0 {
                let start = self.input.varint().ok_or(cut)?;
                let (most, end) = (max_pages(self.page_size), start.saturating_add(pages));
                extent = Run::checked(start, pages, self.page_size).ok_or((
                    "journal region extent",
                    Some(id),
                    most,
                    end,
                ))?;
            }
            limit = limit.min(extent.bytes(self.page_size));
            run = Some(extent);
        }
        if has(flag::LEN) {
            let bytes = self.input.varint().ok_or(cut)?;
            if bytes > limit {
                return Err(("journal region length", Some(id), limit, bytes));
            }
            len = Some(bytes);
        }
        Ok(Entry::Put { id, created, name, run, len })
    }

    fn bytes(&mut self, first: u8, cut: Wrong) -> Result<Entry<'a>, Wrong> {
        let full = first == kind::PAGE;
        let delta = self.input.signed_varint().ok_or(cut)?;
        let page = self.last_page.wrapping_add_signed(delta);
        let most = max_pages(self.page_size);
        if !(FIRST_PAGE..most).contains(&page) {
            return Err(("journal page number", None, most, page));
        }
        let start = if full { 0 } else { self.input.varint().ok_or(cut)? };
        let len = self.input.varint().ok_or(cut)?;
        let (end, size) = (start.saturating_add(len), u64::from(self.page_size));
        if end > size {
            return Err(("journal bytes", None, size, end));
        }
        let offset = u32::try_from(start).map_err(|_| cut)?;
        let data = self.input.bytes(len).ok_or(cut)?;
        self.last_page = page;
        Ok(Entry::Bytes { page, offset, full, data })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.take()?;
        let offset = self.offset();
        if left == 0 {
            let what = "bytes behind the batch's last entry";
            let found = self.end;
            return (self.input.remaining() > 0).then_some(Err(Damage {
                what,
                region: None,
                offset,
                expected: offset,
                found,
            }));
        }
        Some(match self.read(left) {
            Ok(entry) => {
                self.left = Some(left - 1);
                Ok(entry)
            }
            Err((what, region, expected, found)) => {
                Err(Damage { what, region, offset, expected, found })
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests;
