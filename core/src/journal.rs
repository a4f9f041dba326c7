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
use crate::run::{FIRST_PAGE, MAX_REGION_LEN, Run, max_pages};

/// The first bytes of every batch.
pub(crate) const MAGIC: [u8; 8] = *b"allodbat";
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

    /// How many bytes the batch would have if it were finished now.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How many entries there are so far.
    pub(crate) fn entries(&self) -> u32 {
        self.entries
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
    /// The id that the next region gets.
    pub next_id: u64,
    /// The length of the batch with its header, in bytes; at least that of the header.
    pub len: u64,
    /// How many entries there are.
    pub entries: u32,
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
        if (header.store_id, header.salt, header.sequence) != (store_id, salt, sequence) {
            return Err(BatchDefect::Foreign);
        }
        let whole = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
        let whole = whole.ok_or(BatchDefect::Short)?;
        let body = whole.get(HEADER_LEN..).ok_or(BatchDefect::None)?;
        if codec::checksum(whole, CRC_AT) != header.crc {
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

    /// The number of the batch in its generation.
    pub(crate) fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// The highest number of a batch that was durable when this one was written; below its own.
    pub(crate) fn durable(&self) -> u64 {
        self.header.durable
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
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    const ID: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
    const SALT: u64 = 0x1716_1514_1312_1110;

    fn writer(next_id: u64) -> BatchWriter {
        BatchWriter::new(ID, SALT, 9, 7, next_id, 4096)
    }

    fn decode(bytes: &[u8]) -> Result<Batch<'_>, BatchDefect> {
        Batch::decode(bytes, ID, SALT, 9, 4096)
    }

    fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>, Damage> {
        decode(bytes).unwrap().entries().collect()
    }

    fn add(w: &mut BatchWriter, entry: Entry<'_>) {
        match entry {
            Entry::Put { id, created, name, run, len } => w.put(id, created, name, run, len),
            Entry::Remove { id } => w.remove(id),
            Entry::Bytes { page, offset, full, data } => w.bytes(page, offset, full, data),
        }
    }

    /// The same with length and checksum made right again.
    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let len = bytes.len() as u64;
        bytes[56..64].copy_from_slice(&len.to_le_bytes());
        let crc = codec::checksum(&bytes, CRC_AT);
        bytes[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn example_entries() -> [Entry<'static>; 7] {
        let run = Run { start: 512, pages: 16 };
        let put = |id, created, name, run, len| Entry::Put { id, created, name, run, len };
        [
            put(299, true, Some("täg"), Some(run), Some(65_536)),
            put(3, false, None, None, Some(5)),
            put(4, false, Some("b"), Some(Run::default()), None),
            Entry::Remove { id: 200 },
            Entry::Bytes { page: 512, offset: 0, full: true, data: b"xyz" },
            Entry::Bytes { page: 512, offset: 300, full: false, data: b"ab" },
            Entry::Bytes { page: 2, offset: 4096, full: false, data: b"" },
        ]
    }

    fn example() -> Vec<u8> {
        let mut w = writer(300);
        for entry in example_entries() {
            add(&mut w, entry);
        }
        assert_eq!((w.len(), w.entries()), (117, 7));
        w.finish()
    }

    #[test]
    fn a_batch_is_these_bytes() {
        let mut golden = vec![];
        golden.extend(*b"allodbat");
        golden.extend([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        golden.extend([0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]);
        golden.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0x2c, 1, 0, 0, 0, 0, 0, 0]);
        golden.extend([117, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([7, 0, 0, 0]);
        golden.extend(GOLDEN_CRC);
        golden.extend([0x79, 0xab, 2, 4, b't', 0xc3, 0xa4, b'g', 16, 0x80, 4, 0x80, 0x80, 4]);
        golden.extend([0x41, 3, 5]);
        golden.extend([0x31, 4, 1, b'b', 0]);
        golden.extend([2, 0xc8, 1]);
        golden.extend([4, 0x80, 8, 3, b'x', b'y', b'z']);
        golden.extend([3, 0, 0xac, 2, 2, b'a', b'b']);
        golden.extend([3, 0xfb, 7, 0x80, 0x20, 0]);
        assert_eq!(example(), golden);
        assert_eq!(entries(&golden).unwrap(), example_entries());
        let batch = decode(&golden).unwrap();
        assert_eq!((batch.sequence(), batch.durable(), batch.next_id()), (9, 7, 300));
        assert_eq!(batch.len(), 117);
        let header = BatchHeader::decode(&golden[..HEADER_LEN]).unwrap();
        assert_eq!((header.store_id, header.salt, header.sequence), (ID, SALT, 9));
        assert_eq!((header.durable, header.next_id), (7, 300));
        assert_eq!((header.len, header.entries), (117, 7));
    }

    const GOLDEN_CRC: [u8; 4] = [0x55, 0xf5, 0x9d, 0xda];

    #[test]
    fn an_empty_batch_is_a_header() {
        let bytes = BatchWriter::new(ID, SALT, 1, 0, 0, 4096).finish();
        assert_eq!(bytes.len(), HEADER_LEN);
        let batch = Batch::decode(&bytes, ID, SALT, 1, 4096).unwrap();
        assert_eq!(batch.entries().count(), 0);
    }

    #[test]
    fn bytes_in_order_cost_at_most_8_more() {
        let mut w = writer(0);
        let mut page = 1 << 30;
        w.bytes(page, 0, true, &[1; 4096]);
        for step in [0, 1, 17, 1000, 8000] {
            page += step;
            let before = w.len();
            w.bytes(page, 4000, false, &[7; 90]);
            w.bytes(page, 0, true, &[7; 4096]);
            assert!(w.len() - before - 90 - 4096 <= 8 + 4);
        }
    }

    #[test]
    fn padding_is_not_read() {
        let mut padded = example();
        padded.resize(4096, 0xee);
        assert_eq!(entries(&padded).unwrap(), example_entries());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = example();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let defect = decode(&flipped).unwrap_err();
            match bit / 8 {
                0..8 => assert_eq!(defect, BatchDefect::None),
                8..40 => assert_eq!(defect, BatchDefect::Foreign),
                56..64 => assert!(matches!(
                    defect,
                    BatchDefect::None | BatchDefect::Short | BatchDefect::Checksum
                )),
                _ => assert_eq!(defect, BatchDefect::Checksum, "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_batch_cut_anywhere_is_noticed() {
        let bytes = example();
        for len in 0..bytes.len() {
            let expected = if len < HEADER_LEN { BatchDefect::None } else { BatchDefect::Short };
            assert_eq!(decode(&bytes[..len]).unwrap_err(), expected, "{len} bytes");
            // Even under a right checksum the entries and their count have to agree.
            if len >= HEADER_LEN {
                let sealed = sealed(&bytes[..len]);
                let read = decode(&sealed).map(|batch| batch.entries().any(|e| e.is_err()));
                assert_ne!(read.ok(), Some(false), "{len} bytes, sealed");
            }
        }
    }

    #[test]
    fn a_batch_of_elsewhere_is_foreign() {
        let bytes = example();
        for (id, salt, sequence) in
            [(ID ^ 1, SALT, 9), (ID ^ (1 << 127), SALT, 9), (ID, SALT ^ 1, 9), (ID, SALT, 8)]
        {
            let found = Batch::decode(&bytes, id, salt, sequence, 4096);
            assert_eq!(found.unwrap_err(), BatchDefect::Foreign);
        }
    }

    #[test]
    fn a_header_that_no_writer_writes_is_malformed() {
        let mut bytes = example();
        bytes[40] = 9;
        let durable = Err(BatchDefect::Malformed("durable sequence number"));
        assert_eq!(decode(&sealed(&bytes)).map(|_| ()), durable);
        let mut bytes = example();
        bytes[64] = 28;
        let count = Err(BatchDefect::Malformed("entry count"));
        assert_eq!(decode(&sealed(&bytes)).map(|_| ()), count);
        let mut bytes = example();
        bytes[56] = 71;
        assert_eq!(BatchHeader::decode(&bytes), None);
        assert_eq!(decode(&bytes).unwrap_err(), BatchDefect::None);
    }

    /// The damage in a sealed batch with this body; `next_id` is 100.
    fn damage_in(count: u32, body: &[u8]) -> (&'static str, u64, Option<u64>) {
        let mut bytes = writer(100).finish();
        bytes[64..68].copy_from_slice(&count.to_le_bytes());
        bytes.extend(body);
        let bytes = sealed(&bytes);
        let mut entries = decode(&bytes).unwrap().at(40_960).entries();
        let damage = entries.find_map(Result::err).unwrap();
        assert_eq!(entries.next(), None, "nothing comes behind damage");
        (damage.what, damage.offset - 40_960, damage.region)
    }

    #[test]
    fn what_a_right_checksum_does_not_excuse() {
        let far = {
            let mut far = vec![1 | flag::RUN, 5, 1];
            put_varint(&mut far, 1 << 48);
            far
        };
        let last = {
            let mut last = vec![kind::PAGE];
            put_signed_varint(&mut last, 1 << 48);
            last.push(0);
            last
        };
        for (what, region, body) in [
            ("journal entry kind", None, &[0, 0][..]),
            ("journal entry kind", None, &[5, 0]),
            ("journal entry kind", None, &[0x81, 0]),
            ("journal entry kind", None, &[0x0a, 0]),
            ("journal entry kind", None, &[0x0c, 4, 0]),
            ("journal region id", Some(100), &[1, 100]),
            ("journal region id", Some(100), &[2, 100]),
            ("journal entry", None, &[2, 0x80]),
            ("journal entry", None, &[2, 0x80, 0]),
            ("journal creation without a name", Some(5), &[1 | flag::CREATED, 5]),
            ("journal region name", Some(5), &[1 | flag::NAME, 5, 2, b'a']),
            ("journal region name", Some(5), &[1 | flag::NAME, 5, 0]),
            ("journal region name", Some(5), &[1 | flag::NAME, 5, 1, 0x7f]),
            ("journal region extent", Some(5), &[1 | flag::RUN, 5, 1, 1]),
            ("journal region extent", Some(5), &far),
            ("journal entry", None, &[1 | flag::RUN, 5, 1]),
            ("journal entry", None, &[1 | flag::LEN, 5]),
            ("journal region length", Some(5), &[1 | flag::RUN | flag::LEN, 5, 0, 1]),
            ("journal region length", Some(5), &[0x61, 5, 1, 2, 0x81, 0x20]),
            (
                "journal region length",
                Some(5),
                &[0x41, 5, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
            ),
            ("journal page number", None, &[kind::PAGE, 2, 0]),
            ("journal page number", None, &[kind::PAGE, 1, 0]),
            ("journal page number", None, &last),
            ("journal bytes", None, &[kind::PAGE, 4, 0x81, 0x20]),
            ("journal bytes", None, &[kind::RANGE, 4, 0x80, 0x20, 1, b'a']),
            ("journal entry", None, &[kind::PAGE, 4, 2, b'a']),
        ] {
            assert_eq!(damage_in(1, body), (what, 72, region), "{body:?}");
        }
        let surplus = "bytes behind the batch's last entry";
        assert_eq!(damage_in(1, &[2, 0, 2, 0]), (surplus, 74, None));
        assert_eq!(damage_in(0, &[0]), (surplus, 72, None));
        assert_eq!(damage_in(2, &[2, 0, 2, 0x80]), ("journal entry", 74, None));
    }

    #[derive(Clone, Debug)]
    enum Owned {
        Put(u64, bool, Option<String>, Option<Run>, Option<u64>),
        Remove(u64),
        Bytes(u64, u32, bool, Vec<u8>),
    }

    impl Owned {
        fn entry(&self) -> Entry<'_> {
            match *self {
                Self::Put(id, created, ref name, run, len) => {
                    Entry::Put { id, created, name: name.as_deref(), run, len }
                }
                Self::Remove(id) => Entry::Remove { id },
                Self::Bytes(page, offset, full, ref data) => {
                    Entry::Bytes { page, offset, full, data }
                }
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let run = (2u64..1 << 47, 1u64..1 << 40).prop_map(|(start, pages)| Run { start, pages });
        let run = prop_oneof![Just(Run::default()), run];
        let put = (
            0u64..u64::MAX,
            any::<bool>(),
            prop::option::of("[^\\p{Cc}]{1,20}"),
            prop::option::of(run),
            prop::option::of(0..=MAX_REGION_LEN),
        );
        let put = put.prop_map(|(id, created, name, run, len)| {
            let most = run.map_or(u64::MAX, |run| run.bytes(4096));
            Owned::Put(id, created && name.is_some(), name, run, len.map(|len| len.min(most)))
        });
        let bytes = (
            prop_oneof![2u64..9, 2u64..1 << 48],
            0u32..4096,
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..100),
        );
        let bytes = bytes.prop_map(|(page, offset, full, mut data)| {
            let offset = if full { 0 } else { offset };
            data.truncate(4096 - offset as usize);
            Owned::Bytes(page, offset, full, data)
        });
        prop_oneof![put, (0u64..u64::MAX).prop_map(Owned::Remove), bytes]
    }

    proptest! {
        #[test]
        fn a_batch_comes_back(list in prop::collection::vec(owned(), 0..20)) {
            let mut w = writer(u64::MAX);
            for item in &list {
                add(&mut w, item.entry());
            }
            let (len, count) = (w.len(), w.entries());
            let bytes = w.finish();
            prop_assert_eq!((bytes.len() as u64, list.len() as u32), (len, count));
            let expected: Vec<_> = list.iter().map(Owned::entry).collect();
            prop_assert_eq!(entries(&bytes).unwrap(), expected);
        }

        #[test]
        fn any_bytes_give_an_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            kinds in prop::collection::vec(0u8..0x80, 300..=300),
            count in 0u32..20,
            next_id: u64,
        ) {
            prop_assert!(decode(&bytes).is_err());
            prop_assert_eq!(BatchHeader::decode(&bytes), None);
            // Small bytes make many short entries, random ones few long ones.
            for body in [&bytes[..], &kinds[..bytes.len()]] {
                let mut whole = writer(next_id).finish();
                whole[64..68].copy_from_slice(&count.to_le_bytes());
                whole.extend(body);
                check(&sealed(&whole), next_id)?;
            }
        }

        #[test]
        fn damage_under_a_right_checksum_keeps_the_limits(at in 72usize..117, byte: u8) {
            let mut bytes = example();
            bytes[at] = byte;
            check(&sealed(&bytes), 300)?;
        }
    }

    /// Whatever decodes keeps what the entries promise, and encodes to the same bytes.
    fn check(bytes: &[u8], next_id: u64) -> Result<(), TestCaseError> {
        let Ok(batch) = decode(bytes) else {
            return Ok(());
        };
        let mut w = writer(next_id);
        for entry in batch.entries() {
            let Ok(entry) = entry else {
                return Ok(());
            };
            match entry {
                Entry::Put { id, created, name, run, len } => {
                    prop_assert!(id < next_id && (name.is_some() || !created));
                    prop_assert!(name.is_none_or(codec::is_name));
                    let room = run.map_or(u64::MAX, |run| run.bytes(4096));
                    prop_assert!(len.is_none_or(|len| len <= room && len <= MAX_REGION_LEN));
                }
                Entry::Remove { id } => prop_assert!(id < next_id),
                Entry::Bytes { page, offset, full, data } => {
                    prop_assert!((2..max_pages(4096)).contains(&page) && (offset == 0 || !full));
                    prop_assert!(offset as usize + data.len() <= 4096);
                }
            }
            add(&mut w, entry);
        }
        prop_assert_eq!(w.finish(), bytes);
        Ok(())
    }
}
