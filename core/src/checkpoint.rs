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
pub(crate) const HEADER_LEN: usize = 76;

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

    /// How many bytes the checkpoint would have if it were finished now.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
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

    /// The id that the next region gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How many regions there should be: at most a quarter of the checkpoint's bytes.
    pub(crate) fn region_count(&self) -> u64 {
        self.regions
    }

    /// How many carried pages there should be: at most half of the checkpoint's bytes.
    pub(crate) fn carried_count(&self) -> u64 {
        self.carried
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
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;
    use crate::superblock::salt_of;

    const ID: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;

    type Owned = (Vec<(u64, String, Run, u64)>, Vec<(u64, Vec<u8>)>);

    fn run(start: u64, pages: u64) -> Run {
        Run { start, pages }
    }

    /// A slot whose checkpoint and journal lie far behind everything the tests place.
    fn slot(len: usize) -> Superblock {
        Superblock {
            page_size: 4096,
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
            store_id: ID,
            generation: 7,
            salt: salt_of(ID, 7),
            checkpoint: run(1 << 40, 1 << 20),
            checkpoint_len: len as u64,
            journal: run(1 << 41, 1 << 20),
        }
    }

    fn writer(next_id: u64) -> CheckpointWriter {
        CheckpointWriter::new(ID, 7, salt_of(ID, 7), 4096, next_id)
    }

    fn read(bytes: &[u8]) -> Result<Owned, Damage> {
        read_as(bytes, &slot(bytes.len()))
    }

    fn read_as(bytes: &[u8], slot: &Superblock) -> Result<Owned, Damage> {
        let checkpoint = Checkpoint::decode(bytes, slot)?;
        let mut regions = checkpoint.regions();
        let mut table = vec![];
        for region in &mut regions {
            let region = region?;
            table.push((region.id, region.name.to_string(), region.run, region.len));
        }
        let pages = regions.pages()?.map(|p| p.map(|(page, image)| (page, image.to_vec())));
        let pages = pages.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(checkpoint.region_count(), table.len() as u64);
        assert_eq!(checkpoint.carried_count(), pages.len() as u64);
        Ok((table, pages))
    }

    /// The same with length and checksum made right again.
    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let len = bytes.len() as u64;
        bytes[64..72].copy_from_slice(&len.to_le_bytes());
        let crc = codec::checksum(&bytes, CRC_AT);
        bytes[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn example() -> Vec<u8> {
        let mut w = writer(300);
        w.region(5, "empty", Run::default(), 0);
        w.region(4, "a", run(2, 1), 4096);
        w.region(299, "täg", run(130, 200), 5);
        w.page(2, b"xy");
        w.page(329, b"");
        assert_eq!(w.len(), 76 + 8 + 6 + 12 + 4 + 3);
        w.finish()
    }

    #[test]
    fn a_checkpoint_is_these_bytes() {
        let mut golden = vec![];
        golden.extend(*b"allodckp");
        golden.extend([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0x2c, 0x0a, 0x5b, 0x90, 0x72, 0x4b, 0xf5, 0x5b]);
        golden.extend([0x2c, 1, 0, 0, 0, 0, 0, 0]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([109, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(GOLDEN_CRC);
        // Pages, gap, length, id, name.
        golden.extend([0, 10, 5, b'e', b'm', b'p', b't', b'y']);
        golden.extend([1, 0, 0x80, 0x20, 1, 1, b'a']);
        golden.extend([0xc8, 1, 0x7f, 5, 0xce, 4, 4, b't', 0xc3, 0xa4, b'g']);
        // Gap, length, image.
        golden.extend([0, 2, b'x', b'y']);
        golden.extend([0xc6, 2, 0]);
        assert_eq!(example(), golden);
        let regions = vec![
            (5, "empty".to_string(), Run::default(), 0),
            (4, "a".to_string(), run(2, 1), 4096),
            (299, "täg".to_string(), run(130, 200), 5),
        ];
        assert_eq!(read(&golden), Ok((regions, vec![(2, b"xy".to_vec()), (329, vec![])])));
        let checkpoint = Checkpoint::decode(&golden, &slot(golden.len())).unwrap();
        assert_eq!(checkpoint.next_id(), 300);
    }

    const GOLDEN_CRC: [u8; 4] = [0x63, 0x4d, 0xb9, 0x4e];

    #[test]
    fn an_empty_store_is_a_header() {
        let bytes = writer(0).finish();
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(read(&bytes), Ok((vec![], vec![])));
    }

    #[test]
    fn a_region_with_a_name_of_16_bytes_takes_at_most_24() {
        let mut w = writer(1 << 20);
        let names = ["sixteen bytes, a", "sixteen bytes, b"];
        w.region(1 << 20 >> 1, names[0], run(500, 16), 50_000);
        let before = w.len();
        w.region((1 << 20 >> 1) + 1, names[1], run(516, 16), 65_536);
        assert!(w.len() - before <= 24, "{}", w.len() - before);
    }

    #[test]
    fn padding_is_not_read() {
        let bytes = example();
        let mut padded = bytes.clone();
        padded.resize(4096, 0xee);
        assert_eq!(read_as(&padded, &slot(bytes.len())), read(&bytes));
    }

    #[test]
    fn any_flipped_bit_is_damage() {
        let bytes = example();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let damage = Checkpoint::decode(&flipped, &slot(bytes.len())).unwrap_err();
            let what = match bit / 8 {
                0..8 => "checkpoint magic",
                64..72 => "checkpoint length",
                _ => "checkpoint checksum",
            };
            assert_eq!(damage.what, what, "bit {bit}");
            assert_ne!(damage.expected, damage.found);
        }
    }

    #[test]
    fn a_checkpoint_cut_anywhere_is_damage() {
        let bytes = example();
        for len in 0..bytes.len() {
            let whole = slot(bytes.len());
            assert!(Checkpoint::decode(&bytes[..len], &whole).is_err(), "{len} bytes");
            assert!(Checkpoint::decode(&bytes[..len], &slot(len)).is_err(), "{len} bytes");
            // Even under a right checksum the records and the counts have to agree.
            if len >= HEADER_LEN {
                assert!(read(&sealed(&bytes[..len])).is_err(), "{len} bytes, sealed");
            }
        }
    }

    #[test]
    fn a_checkpoint_of_another_slot_is_damage() {
        let bytes = example();
        let good = slot(bytes.len());
        for (what, offset, bad) in [
            ("checkpoint store id", 8, Superblock { store_id: ID ^ 1, ..good }),
            ("checkpoint store id", 16, Superblock { store_id: ID ^ (1 << 90), ..good }),
            ("checkpoint generation", 24, Superblock { generation: 8, ..good }),
            ("checkpoint salt", 32, Superblock { salt: 1, ..good }),
            ("checkpoint length", 64, Superblock { checkpoint_len: 110, ..good }),
            ("checkpoint length", 64, Superblock { checkpoint_len: 0, ..good }),
        ] {
            let damage = Checkpoint::decode(&bytes, &bad).unwrap_err();
            assert_eq!((damage.what, damage.offset), (what, (1 << 52) + offset));
        }
    }

    /// The damage in a sealed checkpoint with these counts and this body; `next_id` is 100.
    fn damage_in(regions: u64, carried: u64, body: &[u8]) -> (&'static str, u64, Option<u64>) {
        let mut bytes = writer(100).finish();
        bytes[48..56].copy_from_slice(&regions.to_le_bytes());
        bytes[56..64].copy_from_slice(&carried.to_le_bytes());
        bytes.extend(body);
        let damage = read(&sealed(&bytes)).unwrap_err();
        (damage.what, damage.offset - (1 << 52), damage.region)
    }

    #[test]
    fn what_a_right_checksum_does_not_excuse() {
        let far = |page: u64| {
            let mut gap = vec![];
            put_varint(&mut gap, page - 2);
            gap
        };
        let at = |place: &[u8]| [&[1][..], place, &[0, 0, 1, b'a']].concat();
        for (what, region, body) in [
            ("region record", None, &[0, 0x80, 0, b'a'][..]),
            ("region record", None, &[1, 0x80, 0x80, 0x80]),
            ("region name", Some(1), &[0, 2, 2, b'a']),
            ("region name", Some(1), &[0, 2, 0, 0]),
            ("region name", Some(1), &[0, 2, 1, b'\n']),
            ("region name", Some(1), &[0, 2, 1, 0xff]),
            ("region id", Some(100), &[0, 0xc8, 1, 1, b'a']),
            ("region id", Some(u64::MAX), &[0, 1, 1, b'a']),
            ("region length", Some(0), &[1, 0, 0x81, 0x20, 0, 1, b'a']),
            ("region extent", Some(0), &at(&far(1 << 48))),
            ("region extent", Some(0), &at(&far(u64::MAX))),
            ("region extent over the checkpoint", Some(0), &at(&far((1 << 40) + 9))),
            ("region extent over the journal", Some(0), &at(&far(1 << 41))),
        ] {
            assert_eq!(damage_in(1, 0, body), (what, 76, region), "{body:?}");
        }
        assert_eq!(damage_in(1, 0, &[0, 2, 1]).0, "region count");
        assert_eq!(damage_in(u64::MAX, 0, &[0; 40]).0, "region count");
        assert_eq!(damage_in(0, u64::MAX, &[0; 40]).0, "carried page count");
        let order = [1, 0, 0, 0, 1, b'a', 0, 2, 1, b'b'];
        let what = "region without an extent, out of order";
        assert_eq!(damage_in(2, 0, &order), (what, 82, Some(1)));
        for (what, offset, body) in [
            ("carried page record", 76, &[0, 0x80][..]),
            ("carried page number", 76, &[&far(1 << 48)[..], &[0]].concat()),
            ("carried page length", 76, &[0, 0x81, 0x20]),
            ("carried page", 76, &[0, 2, b'a']),
            ("bytes behind the checkpoint's last page", 78, &[0, 0, 0]),
        ] {
            assert_eq!(damage_in(0, 1, body), (what, offset, None), "{body:?}");
        }
    }

    #[test]
    fn damage_among_the_regions_hides_the_pages() {
        let mut bytes = example();
        bytes[HEADER_LEN + 3] = 0xff;
        let bytes = sealed(&bytes);
        let checkpoint = Checkpoint::decode(&bytes, &slot(bytes.len())).unwrap();
        assert_eq!(checkpoint.regions().pages().unwrap_err().what, "region name");
        let mut regions = checkpoint.regions();
        assert!(regions.next().unwrap().is_err());
        assert!(regions.next().is_none());
        assert_eq!(regions.pages().unwrap_err().what, "region name");
    }

    #[test]
    fn pages_are_found_behind_regions_that_nobody_read() {
        let bytes = example();
        let checkpoint = Checkpoint::decode(&bytes, &slot(bytes.len())).unwrap();
        let pages: Vec<_> = checkpoint.regions().pages().unwrap().map(|p| p.unwrap().0).collect();
        assert_eq!(pages, [2, 329]);
    }

    proptest! {
        #[test]
        fn a_checkpoint_comes_back(
            empty in prop::collection::vec((any::<u32>(), "[^\\p{Cc}]{1,20}"), 0..4),
            placed in prop::collection::vec(
                (any::<u32>(), "[^\\p{Cc}]{1,20}", 0u64..500, 1u64..5000, any::<u64>()),
                0..20,
            ),
            pages in prop::collection::btree_map(
                2u64..1 << 48,
                prop::collection::vec(any::<u8>(), 0..100),
                0..10,
            ),
        ) {
            let mut w = writer(1 << 32);
            let mut regions = vec![];
            for (id, name) in empty {
                regions.push((u64::from(id), name, Run::default(), 0));
            }
            let mut end = 2;
            for (id, name, gap, pages, len) in placed {
                let run = run(end + gap, pages);
                end = run.end();
                regions.push((u64::from(id), name, run, len % (pages * 4096 + 1)));
            }
            for (id, name, run, len) in &regions {
                w.region(*id, name, *run, *len);
            }
            for (page, image) in &pages {
                w.page(*page, image);
            }
            let len = w.len();
            let bytes = w.finish();
            prop_assert_eq!(bytes.len() as u64, len);
            prop_assert_eq!(read(&bytes), Ok((regions, pages.into_iter().collect())));
        }

        #[test]
        fn any_bytes_give_an_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            regions in 0u64..6,
            carried in 0u64..6,
            next_id: u64,
        ) {
            prop_assert!(read(&bytes).is_err());
            let mut whole = writer(next_id).finish();
            whole[48..56].copy_from_slice(&regions.to_le_bytes());
            whole[56..64].copy_from_slice(&carried.to_le_bytes());
            whole.extend(bytes);
            check(&sealed(&whole), next_id)?;
        }

        #[test]
        fn damage_under_a_right_checksum_keeps_the_limits(
            at in 76usize..109,
            byte: u8,
        ) {
            let mut bytes = example();
            bytes[at] = byte;
            check(&sealed(&bytes), 300)?;
        }
    }

    /// Whatever decodes keeps what the records promise.
    fn check(bytes: &[u8], next_id: u64) -> Result<(), TestCaseError> {
        let slot = slot(bytes.len());
        let Ok((regions, pages)) = read_as(bytes, &slot) else {
            return Ok(());
        };
        let mut taken = BTreeMap::new();
        for run in [run(0, 2), slot.checkpoint, slot.journal] {
            taken.insert(run.start, run.end());
        }
        for (id, name, run, len) in regions {
            prop_assert!(id < next_id && codec::is_name(&name));
            prop_assert!(len <= run.bytes(4096) && len <= MAX_REGION_LEN);
            if !run.is_empty() {
                prop_assert!(run.end() <= max_pages(4096));
                prop_assert_eq!(taken.insert(run.start, run.end()), None);
            }
        }
        let ends = taken.values();
        prop_assert!(taken.keys().skip(1).zip(ends).all(|(start, end)| end <= start));
        prop_assert!(pages.windows(2).all(|w| w[0].0 < w[1].0));
        for (page, image) in pages {
            prop_assert!((2..max_pages(4096)).contains(&page) && image.len() <= 4096);
        }
        Ok(())
    }
}
