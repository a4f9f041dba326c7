//! The checkpoint: the whole region table of one generation, and the images of the pages that it
//! carries, as one run of bytes under one checksum.
//!
//! [`CheckpointWriter`] builds it; [`Checkpoint`] reads it, in one pass and without allocating:
//! first the [`Regions`], and from them the [`Pages`]. What needs a table to check (that no id and
//! no name comes twice, that a carried page belongs to a region) is the caller's.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::vec;
use alloc::vec::Vec;

use crate::codec::{self, Input, put_name, put_signed_varint, put_varint};
use crate::error::Damage;
use crate::run::{FIRST_PAGE, MAX_REGION_LEN, Run, max_pages};
use crate::superblock::Superblock;

/// The first bytes of every checkpoint.
pub(crate) const MAGIC: [u8; 8] = *b"allodckp";
/// The length of the header, in bytes: that of a checkpoint of an empty store.
const HEADER_LEN: usize = 76;

const CRC_AT: usize = HEADER_LEN - 4;
/// No region takes less: no pages, an id, a name of one byte.
const MIN_REGION_LEN: u64 = 4;
/// No carried page takes less: a distance and an empty image.
const MIN_CARRIED_LEN: u64 = 2;

/// Builds a checkpoint: all regions, then all carried pages, each kind in its order.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    /// The header's place, as zeros, and everything behind it.
    bytes: Vec<u8>,
    store_id: u128,
    generation: u64,
    salt: u64,
    page_size: u32,
    next_id: u64,
    regions: u64,
    carried: u64,
    last_id: u64,
    /// The end of the last extent.
    end: u64,
    /// The page behind the last carried one.
    next_page: u64,
}

impl CheckpointWriter {
    /// A checkpoint without regions and pages.
    pub(crate) fn new(
        store_id: u128,
        generation: u64,
        salt: u64,
        page_size: u32,
        next_id: u64,
    ) -> Self {
        Self {
            bytes: vec![0; HEADER_LEN],
            store_id,
            generation,
            salt,
            page_size,
            next_id,
            regions: 0,
            carried: 0,
            last_id: 0,
            end: FIRST_PAGE,
            next_page: FIRST_PAGE,
        }
    }

    /// Adds a region. The caller gives those without an extent (an empty `run`, and `len` 0) first
    /// and the others by ascending start, with valid names, before any page.
    pub(crate) fn region(&mut self, id: u64, name: &str, run: Run, len: u64) {
        debug_assert_eq!(self.carried, 0, "regions come before pages");
        debug_assert!(id < self.next_id && len <= run.bytes(self.page_size));
        put_varint(&mut self.bytes, run.pages);
        if run.is_empty() {
            debug_assert_eq!(self.end, FIRST_PAGE, "regions without an extent come first");
        } else {
            debug_assert!(self.end <= run.start && run.end() <= max_pages(self.page_size));
            put_varint(&mut self.bytes, run.start.wrapping_sub(self.end));
            put_varint(&mut self.bytes, len);
            self.end = run.end();
        }
        put_signed_varint(&mut self.bytes, id.wrapping_sub(self.last_id) as i64);
        put_name(&mut self.bytes, name);
        self.last_id = id;
        self.regions += 1;
    }

    /// Adds a carried page: its first bytes, the rest of it being zeros. The caller gives pages in
    /// ascending order.
    pub(crate) fn page(&mut self, page: u64, image: &[u8]) {
        debug_assert!(self.next_page <= page && page < max_pages(self.page_size));
        debug_assert!(image.len() <= self.page_size as usize);
        put_varint(&mut self.bytes, page.wrapping_sub(self.next_page));
        put_varint(&mut self.bytes, image.len() as u64);
        self.bytes.extend_from_slice(image);
        self.next_page = page.wrapping_add(1);
        self.carried += 1;
    }

    /// The checkpoint, not padded.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&self.store_id.to_le_bytes());
        for field in [
            self.generation,
            self.salt,
            self.next_id,
            self.regions,
            self.carried,
            self.bytes.len() as u64,
        ] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        let mut bytes = self.bytes;
        codec::patch(&mut bytes, 0, &header);
        let crc = codec::checksum(&bytes, CRC_AT);
        codec::patch(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }
}

/// A checkpoint whose header and checksum are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint<'a> {
    next_id: u64,
    regions: u64,
    carried: u64,
    body: Body<'a>,
}

/// What follows the header, and what it takes to judge it.
#[derive(Clone, Copy, Debug)]
struct Body<'a> {
    input: Input<'a>,
    /// Where the checkpoint ends in the store, in bytes.
    end: u64,
    page_size: u32,
    checkpoint: Run,
    journal: Run,
}

impl Body<'_> {
    /// Where the next byte lies in the store.
    fn offset(&self) -> u64 {
        self.end.saturating_sub(self.input.remaining() as u64)
    }
}

/// A region, as the checkpoint tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionRecord<'a> {
    /// The id; below the checkpoint's `next_id`.
    pub id: u64,
    /// The name; valid.
    pub name: &'a str,
    /// The extent, empty if there is none; inside the limits, and apart from the slots, the
    /// checkpoint, the journal and all regions before.
    pub run: Run,
    /// The length in bytes; not more than the extent has.
    pub len: u64,
}

impl<'a> Checkpoint<'a> {
    /// Reads the header, and checks that it is the one the slot names and that the checksum over
    /// everything is right. `bytes` starts at the checkpoint and may be longer than it. Costs one
    /// pass for the checksum.
    pub(crate) fn decode(bytes: &'a [u8], expected: &Superblock) -> Result<Self, Damage> {
        let base = expected.checkpoint.offset(expected.page_size);
        let damage = |what, at: u64, expected, found| {
            Err(Damage { what, region: None, offset: base.saturating_add(at), expected, found })
        };
        let Some(header) = Header::decode(bytes) else {
            return damage("checkpoint header", 0, HEADER_LEN as u64, bytes.len() as u64);
        };
        if header.magic != MAGIC {
            let number = u64::from_le_bytes;
            return damage("checkpoint magic", 0, number(MAGIC), number(header.magic));
        }
        if header.len != expected.checkpoint_len {
            return damage("checkpoint length", 64, expected.checkpoint_len, header.len);
        }
        let whole = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
        let Some((whole, body)) = whole.and_then(|w| Some((w, w.get(HEADER_LEN..)?))) else {
            return damage("checkpoint length", 64, bytes.len() as u64, header.len);
        };
        let crc = codec::checksum(whole, CRC_AT);
        if header.crc != crc {
            return damage("checkpoint checksum", 72, header.crc.into(), crc.into());
        }
        for (at, half) in [(8, 0), (16, 64)] {
            let (ours, theirs) = (expected.store_id >> half, header.store_id >> half);
            if ours as u64 != theirs as u64 {
                return damage("checkpoint store id", at, ours as u64, theirs as u64);
            }
        }
        if header.generation != expected.generation {
            return damage("checkpoint generation", 24, expected.generation, header.generation);
        }
        if header.salt != expected.salt {
            return damage("checkpoint salt", 32, expected.salt, header.salt);
        }
        // A count that the bytes cannot hold would make a caller reserve memory for nothing.
        let room = body.len() as u64;
        if header.regions > room / MIN_REGION_LEN {
            return damage("region count", 48, room / MIN_REGION_LEN, header.regions);
        }
        if header.carried > room / MIN_CARRIED_LEN {
            return damage("carried page count", 56, room / MIN_CARRIED_LEN, header.carried);
        }
        Ok(Self {
            next_id: header.next_id,
            regions: header.regions,
            carried: header.carried,
            body: Body {
                input: Input::new(body),
                end: base.saturating_add(header.len),
                page_size: expected.page_size,
                checkpoint: expected.checkpoint,
                journal: expected.journal,
            },
        })
    }

    /// Whether `page` holds the whole checkpoint with which a store begins: of generation 1, without
    /// regions.
    pub(crate) fn is_of_new_store(page: &[u8]) -> bool {
        let Some(header) = Header::decode(page) else { return false };
        let whole = usize::try_from(header.len).ok().and_then(|len| page.get(..len));
        header.magic == MAGIC
            && header.generation == 1
            && header.regions == 0
            && header.carried == 0
            && whole.is_some_and(|whole| codec::checksum(whole, CRC_AT) == header.crc)
    }

    /// The id that the next region gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How many regions there should be: at most a quarter of the checkpoint's bytes.
    pub(crate) fn region_count(&self) -> u64 {
        self.regions
    }

    /// The regions, those without an extent first, then by ascending start.
    pub(crate) fn regions(&self) -> Regions<'a> {
        Regions {
            body: self.body,
            next_id: self.next_id,
            count: self.regions,
            left: self.regions,
            carried: self.carried,
            last_id: 0,
            end: FIRST_PAGE,
            failed: None,
        }
    }
}

struct Header {
    magic: [u8; 8],
    store_id: u128,
    generation: u64,
    salt: u64,
    next_id: u64,
    regions: u64,
    carried: u64,
    len: u64,
    crc: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        Some(Self {
            magic: input.array()?,
            store_id: input.u128()?,
            generation: input.u64()?,
            salt: input.u64()?,
            next_id: input.u64()?,
            regions: input.u64()?,
            carried: input.u64()?,
            len: input.u64()?,
            crc: input.u32()?,
        })
    }
}

/// The regions of a checkpoint, in order. Ends behind the first damage.
#[derive(Debug)]
pub(crate) struct Regions<'a> {
    body: Body<'a>,
    next_id: u64,
    count: u64,
    left: u64,
    carried: u64,
    last_id: u64,
    end: u64,
    failed: Option<Damage>,
}

impl<'a> Regions<'a> {
    /// The carried pages, which lie behind the regions. Regions that were not read yet are checked
    /// on the way; damage among the regions, reported before or not, is the answer.
    pub(crate) fn pages(mut self) -> Result<Pages<'a>, Damage> {
        for region in self.by_ref() {
            region?;
        }
        match self.failed {
            Some(damage) => Err(damage),
            None => Ok(Pages {
                body: self.body,
                count: self.carried,
                left: Some(self.carried),
                next_page: FIRST_PAGE,
            }),
        }
    }

    fn read(&mut self) -> Result<RegionRecord<'a>, Damage> {
        let offset = self.body.offset();
        let damage =
            |what, region, expected, found| Err(Damage { what, region, offset, expected, found });
        let Some((pages, gap, len, id)) = self.numbers() else {
            return damage("region record", None, self.count, self.count - self.left);
        };
        if id >= self.next_id {
            return damage("region id", Some(id), self.next_id, id);
        }
        let mut run = Run::default();
        if pages > 0 {
            let limit = max_pages(self.body.page_size);
            let start = self.end.saturating_add(gap);
            let Some(checked) = Run::checked(start, pages, self.body.page_size) else {
                return damage("region extent", Some(id), limit, start.saturating_add(pages));
            };
            run = checked;
            self.end = run.end();
            if run.overlaps(&self.body.checkpoint) {
                let found = self.body.checkpoint.start;
                return damage("region extent over the checkpoint", Some(id), found, start);
            }
            if run.overlaps(&self.body.journal) {
                let found = self.body.journal.start;
                return damage("region extent over the journal", Some(id), found, start);
            }
        } else if self.end != FIRST_PAGE {
            return damage("region without an extent, out of order", Some(id), 1, pages);
        }
        let limit = run.bytes(self.body.page_size).min(MAX_REGION_LEN);
        if len > limit {
            return damage("region length", Some(id), limit, len);
        }
        let Some(name) = self.body.input.name() else {
            return damage("region name", Some(id), self.count, self.count - self.left);
        };
        Ok(RegionRecord { id, name, run, len })
    }

    /// Pages, gap, length and id of the next record.
    #[inline]
    fn numbers(&mut self) -> Option<(u64, u64, u64, u64)> {
        let input = &mut self.body.input;
        let pages = input.varint()?;
        let (gap, len) = if pages == 0 { (0, 0) } else { (input.varint()?, input.varint()?) };
        self.last_id = self.last_id.wrapping_add_signed(input.signed_varint()?);
        Some((pages, gap, len, self.last_id))
    }
}

impl<'a> Iterator for Regions<'a> {
    type Item = Result<RegionRecord<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let region = self.read();
        match &region {
            Ok(_) => self.left -= 1,
            Err(damage) => {
                self.failed = Some(damage.clone());
                self.left = 0;
            }
        }
        Some(region)
    }
}

/// The carried pages of a checkpoint: number and first bytes of each, ascending; the rest of a page
/// is zeros. Ends behind the first damage. Bytes behind the last page are damage.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    body: Body<'a>,
    count: u64,
    /// `None` once the end, or damage, was told.
    left: Option<u64>,
    next_page: u64,
}

impl<'a> Pages<'a> {
    fn read(&mut self, left: u64) -> Result<(u64, &'a [u8]), Damage> {
        let offset = self.body.offset();
        let damage =
            |what, expected, found| Err(Damage { what, region: None, offset, expected, found });
        let input = &mut self.body.input;
        let numbers = input.varint().and_then(|gap| Some((gap, input.varint()?)));
        let Some((gap, len)) = numbers else {
            return damage("carried page record", self.count, self.count - left);
        };
        let (page, limit) = (self.next_page.saturating_add(gap), max_pages(self.body.page_size));
        if page >= limit {
            return damage("carried page number", limit, page);
        }
        if len > u64::from(self.body.page_size) {
            return damage("carried page length", self.body.page_size.into(), len);
        }
        let Some(image) = self.body.input.bytes(len) else {
            return damage("carried page", len, self.body.input.remaining() as u64);
        };
        self.next_page = page + 1;
        Ok((page, image))
    }
}

impl<'a> Iterator for Pages<'a> {
    type Item = Result<(u64, &'a [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.take()?;
        if left == 0 {
            let surplus = self.body.input.remaining() as u64;
            return (surplus > 0).then(|| {
                let (offset, end) = (self.body.offset(), self.body.end);
                let what = "bytes behind the checkpoint's last page";
                Err(Damage { what, region: None, offset, expected: offset, found: end })
            });
        }
        let page = self.read(left);
        if page.is_ok() {
            self.left = Some(left - 1);
        }
        Some(page)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests;
