//! The superblock: what a slot page says about the store, its checkpoint and its journal.
//!
//! A slot page is one record of 512 bytes, repeated to the end of the page, so that no damaged
//! sector and no flipped bit loses a slot. This module turns a page into the best [`Superblock`] on
//! it, or into the reason why there is none. Which of the two slots counts is recovery's to decide
//! (R1): a slot that reads is not yet a slot that was proven.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::vec::Vec;

use crate::codec::Input;
use crate::mutant::{self, Mutant};
use crate::run::{MAX_PAGE_SIZE, MIN_PAGE_SIZE, Run, is_page_size};

/// The first bytes of every record. The line ends and the end-of-file character in it break when a
/// transfer takes the file for text.
const MAGIC: [u8; 8] = *b"allod\r\n\x1a";
/// The format version that this build writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// The bits of [`Superblock::incompatible`] that this build knows.
const KNOWN_INCOMPATIBLE: u64 = 0;
/// The bits of [`Superblock::read_only_compatible`] that this build knows.
const KNOWN_READ_ONLY_COMPATIBLE: u64 = 0;
/// The highest generation: more than any store can reach, so that counting never overflows.
pub(crate) const MAX_GENERATION: u64 = 1 << 62;
/// The length of a record, in bytes.
const RECORD_LEN: usize = 512;

const CRC_AT: usize = RECORD_LEN - 4;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// The page size of the store, in bytes.
    pub page_size: u32,
    /// Features that a reader or writer may ignore.
    pub compatible: u64,
    /// Features that a reader may ignore, and that forbid writing to who does not know them.
    pub read_only_compatible: u64,
    /// Features that forbid even reading to who does not know them.
    pub incompatible: u64,
    /// The id of the store, constant for its life.
    pub store_id: u128,
    /// Which checkpoint of the store this is, from 1 on.
    pub generation: u64,
    /// [`salt_of`] the store id and the generation.
    pub salt: u64,
    /// Where the checkpoint of the generation lies.
    pub checkpoint: Run,
    /// The length of the checkpoint, in bytes.
    pub checkpoint_len: u64,
    /// Where the journal of the generation lies.
    pub journal: Run,
    /// The generation that is known to have taken this one's place, or 0. It is written into the old
    /// slot, without a sync, when the new one is proven: who finds it knows that what this slot
    /// names may be gone.
    pub superseded: u64,
}

/// Why a slot page gives no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotDefect {
    /// Nothing but zeros, or no bytes at all.
    Blank,
    /// No record starts with the magic.
    NoMagic {
        /// The first bytes of the first record that is not blank (zeros where there are fewer).
        found: [u8; 8],
    },
    /// Records are there, but no checksum is right.
    Checksum {
        /// The checksum that the first such record states.
        expected: u32,
        /// The checksum of its bytes.
        found: u32,
    },
    /// An intact record of a later version of the format.
    Newer {
        /// Its format version.
        version: u32,
        /// Its incompatible features that this build does not know.
        features: u64,
    },
    /// An intact record, or the start of one in a file cut short, that no version 1 writer wrote.
    Invalid(&'static str),
}

impl SlotDefect {
    /// How much the defect tells about the page; the most telling one is reported.
    const fn rank(&self) -> u8 {
        match self {
            Self::Blank => 0,
            Self::NoMagic { .. } => 1,
            Self::Checksum { .. } => 2,
            Self::Invalid(_) => 3,
            Self::Newer { .. } => 4,
        }
    }
}

impl Superblock {
    /// The whole slot page: the record, repeated.
    pub(crate) fn encode_page(&self) -> Vec<u8> {
        debug_assert_eq!(self.validate(), Ok(()));
        // Bounded, so that a value that never came from a decoder cannot ask for 4 GiB.
        let copies = self.page_size.clamp(MIN_PAGE_SIZE, MAX_PAGE_SIZE) as usize / RECORD_LEN;
        self.encode_record().repeat(copies)
    }

    fn encode_record(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(RECORD_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.page_size.to_le_bytes());
        out.extend_from_slice(&self.compatible.to_le_bytes());
        out.extend_from_slice(&self.read_only_compatible.to_le_bytes());
        out.extend_from_slice(&self.incompatible.to_le_bytes());
        out.extend_from_slice(&self.store_id.to_le_bytes());
        for field in [
            self.generation,
            self.salt,
            self.checkpoint.start,
            self.checkpoint.pages,
            self.checkpoint_len,
            self.journal.start,
            self.journal.pages,
            self.superseded,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The valid record with the highest generation on a slot page, or else the defect that tells
    /// most. `page` may be shorter than the page was (a file cut short) or longer: every whole
    /// record in it counts.
    pub(crate) fn decode_page(page: &[u8]) -> Result<Self, SlotDefect> {
        if page.len() < RECORD_LEN {
            return Err(fragment_defect(page));
        }
        let mut best: Option<Self> = None;
        let mut defect = SlotDefect::Blank;
        for record in page.chunks_exact(RECORD_LEN) {
            match Self::decode_record(record) {
                Ok(found) if best.is_none_or(|best| best.age() < found.age()) => {
                    best = Some(found);
                }
                Ok(_) => {}
                Err(found) if found.rank() > defect.rank() => defect = found,
                Err(_) => {}
            }
        }
        best.ok_or(defect)
    }

    /// Which of two records of a page is newer.
    fn age(&self) -> (u64, u64) {
        (self.generation, self.superseded)
    }

    fn decode_record(record: &[u8]) -> Result<Self, SlotDefect> {
        if record.iter().all(|&byte| byte == 0) {
            return Err(SlotDefect::Blank);
        }
        Self::parse(record).unwrap_or_else(|| Err(fragment_defect(record)))
    }

    /// `None` where the record is shorter than a record.
    fn parse(record: &[u8]) -> Option<Result<Self, SlotDefect>> {
        let mut input = Input::new(record);
        let magic = input.array()?;
        if magic != MAGIC {
            return Some(Err(SlotDefect::NoMagic { found: magic }));
        }
        let (covered, stated) = record.split_at_checked(CRC_AT)?;
        let (expected, found) = (Input::new(stated).u32()?, crc32fast::hash(covered));
        if expected != found {
            return Some(Err(SlotDefect::Checksum { expected, found }));
        }
        let version = input.u32()?;
        let superblock = Self {
            page_size: input.u32()?,
            compatible: input.u64()?,
            read_only_compatible: input.u64()?,
            incompatible: input.u64()?,
            store_id: input.u128()?,
            generation: input.u64()?,
            salt: input.u64()?,
            checkpoint: Run { start: input.u64()?, pages: input.u64()? },
            checkpoint_len: input.u64()?,
            journal: Run { start: input.u64()?, pages: input.u64()? },
            superseded: input.u64()?,
        };
        let features = superblock.incompatible & !KNOWN_INCOMPATIBLE;
        if version > VERSION || (version == VERSION && features != 0) {
            return Some(Err(SlotDefect::Newer { version, features }));
        }
        if version != VERSION {
            return Some(Err(SlotDefect::Invalid("format version")));
        }
        Some(superblock.validate().map(|()| superblock).map_err(SlotDefect::Invalid))
    }

    fn validate(&self) -> Result<(), &'static str> {
        if !is_page_size(self.page_size) {
            return Err("page size");
        }
        if self.generation == 0 || self.generation > MAX_GENERATION {
            return Err("generation");
        }
        if self.salt != salt_of(self.store_id, self.generation) {
            return Err("salt");
        }
        let checked = |run: Run| Run::checked(run.start, run.pages, self.page_size);
        let checkpoint = checked(self.checkpoint).ok_or("checkpoint extent")?;
        let journal = checked(self.journal).ok_or("journal extent")?;
        if checkpoint.overlaps(&journal) {
            return Err("checkpoint and journal overlap");
        }
        if self.superseded != 0 && self.superseded <= self.generation {
            return Err("superseding generation");
        }
        if self.checkpoint_len > checkpoint.bytes(self.page_size) {
            return Err("checkpoint length");
        }
        Ok(())
    }

    /// The read-only-compatible features that this build does not know: where there are any, the
    /// store may be read and must not be written.
    pub(crate) const fn unknown_read_only_compatible(&self) -> u64 {
        self.read_only_compatible & !KNOWN_READ_ONLY_COMPATIBLE
    }
}

/// What is wrong with bytes that are too few for a record.
fn fragment_defect(bytes: &[u8]) -> SlotDefect {
    if bytes.iter().all(|&byte| byte == 0) {
        return SlotDefect::Blank;
    }
    let mut found = [0; 8];
    found.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    if found == MAGIC {
        SlotDefect::Invalid("the record is cut short")
    } else {
        SlotDefect::NoMagic { found }
    }
}

/// The salt of a generation: what tells its journal batches from those of every other generation
/// and store. A strong mix of both numbers, and for one store a bijection of the generation, so
/// that no salt comes twice (R6); only the generation that would get 0 gets another number instead.
pub(crate) fn salt_of(store_id: u128, generation: u64) -> u64 {
    let generation = if mutant::is(Mutant::SaltRepeats) { 1 } else { generation };
    let low = mix(store_id as u64);
    let high = mix(low ^ (store_id >> 64) as u64);
    let salt = mix(high ^ generation);
    if salt == 0 { GOLDEN } else { salt }
}

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One step of the SplitMix64 generator: a bijection in which every bit of the input moves about
/// half of the bits of the output.
const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const ID: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;

    fn example() -> Superblock {
        Superblock {
            page_size: 4096,
            compatible: 0x11,
            read_only_compatible: 0,
            incompatible: 0,
            store_id: ID,
            generation: 7,
            salt: salt_of(ID, 7),
            checkpoint: Run { start: 2050, pages: 3 },
            checkpoint_len: 10_000,
            journal: Run { start: 2, pages: 2048 },
            superseded: 0,
        }
    }

    /// The record with its checksum made right again.
    fn sealed(mut record: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&record[..CRC_AT]);
        record[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        record
    }

    #[test]
    fn a_record_is_these_bytes() {
        let mut golden = vec![];
        golden.extend(*b"allod\r\n\x1a");
        golden.extend([1, 0, 0, 0]);
        golden.extend([0, 0x10, 0, 0]);
        golden.extend([0x11, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0; 16]);
        golden.extend([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(GOLDEN_SALT);
        golden.extend([2, 8, 0, 0, 0, 0, 0, 0]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0x10, 0x27, 0, 0, 0, 0, 0, 0]);
        golden.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0, 8, 0, 0, 0, 0, 0, 0]);
        golden.extend([0; 8]);
        assert_eq!(golden.len(), 120);
        golden.resize(508, 0);
        golden.extend(GOLDEN_CRC);
        let page = example().encode_page();
        assert_eq!(page.len(), 4096);
        for record in page.chunks(512) {
            assert_eq!(record, golden);
        }
        assert_eq!(Superblock::decode_page(&golden), Ok(example()));
    }

    const GOLDEN_SALT: [u8; 8] = [0x2c, 0x0a, 0x5b, 0x90, 0x72, 0x4b, 0xf5, 0x5b];
    const GOLDEN_CRC: [u8; 4] = [0x6c, 0x5a, 0x42, 0xb3];

    #[test]
    fn salts_are_these_numbers() {
        assert_eq!(salt_of(0, 0), 0x2382_75bc_38fc_be91);
        assert_eq!(salt_of(0, 1), 0x2f32_a784_96c6_7c60);
        assert_eq!(salt_of(ID, 7), 0x5bf5_4b72_905b_0a2c);
        assert_eq!(salt_of(u128::MAX, u64::MAX), 0x595b_17f4_87c0_e71b);
        // The first output of SplitMix64 seeded with 0, as published.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_costs_no_slot() {
        let page = example().encode_page();
        for bit in 0..RECORD_LEN * 8 {
            let mut flipped = page.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Superblock::decode_page(&flipped), Ok(example()), "bit {bit}");
            let alone = Superblock::decode_page(&flipped[..RECORD_LEN]);
            let noticed = match alone {
                Err(SlotDefect::NoMagic { .. }) => bit < 64,
                Err(SlotDefect::Checksum { expected, found }) => bit >= 64 && expected != found,
                _ => false,
            };
            assert!(noticed, "bit {bit}: {alone:?}");
        }
    }

    #[test]
    fn a_page_cut_anywhere_gives_the_slot_or_says_why_not() {
        let page = example().encode_page();
        for len in 0..page.len() {
            let expected = match len {
                0 => Err(SlotDefect::Blank),
                1..8 => {
                    let mut found = [0; 8];
                    found[..len].copy_from_slice(&MAGIC[..len]);
                    Err(SlotDefect::NoMagic { found })
                }
                8..512 => Err(SlotDefect::Invalid("the record is cut short")),
                _ => Ok(example()),
            };
            assert_eq!(Superblock::decode_page(&page[..len]), expected, "{len} bytes");
        }
    }

    #[test]
    fn the_highest_generation_of_a_torn_page_counts() {
        let old = example();
        let new = Superblock { generation: 9, salt: salt_of(ID, 9), ..old };
        for at in 0..8 {
            let mut page = old.encode_page();
            page[at * 512..(at + 1) * 512].copy_from_slice(&new.encode_page()[..512]);
            assert_eq!(Superblock::decode_page(&page), Ok(new));
        }
    }

    #[test]
    fn a_slot_that_was_superseded_anywhere_on_its_page_is() {
        let old = example();
        let superseded = Superblock { superseded: 8, ..old };
        for at in 0..8 {
            let mut page = old.encode_page();
            page[at * 512..(at + 1) * 512].copy_from_slice(&superseded.encode_page()[..512]);
            assert_eq!(Superblock::decode_page(&page), Ok(superseded));
        }
        let wrong = Superblock { superseded: 7, ..old };
        assert_eq!(
            Superblock::decode_page(&wrong.encode_record()),
            Err(SlotDefect::Invalid("superseding generation"))
        );
    }

    #[test]
    fn the_most_telling_defect_is_reported() {
        let good = example().encode_record();
        let mut newer = good.clone();
        newer[8] = 2;
        newer[32] = 0x40;
        let newer = sealed(newer);
        let mut invalid = good.clone();
        invalid[12] = 1;
        let invalid = sealed(invalid);
        let mut broken = good.clone();
        broken[500] = 1;
        let mut foreign = good.clone();
        foreign[0] = b'x';
        let blank = vec![0; 512];
        let order = [&blank, &foreign, &broken, &invalid, &newer];
        let defects = order.map(|record| Superblock::decode_page(record).unwrap_err());
        assert_eq!(defects[0], SlotDefect::Blank);
        assert_eq!(defects[1], SlotDefect::NoMagic { found: *b"xllod\r\n\x1a" });
        assert!(matches!(defects[2], SlotDefect::Checksum { .. }));
        assert_eq!(defects[3], SlotDefect::Invalid("page size"));
        assert_eq!(defects[4], SlotDefect::Newer { version: 2, features: 0x40 });
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                let page = [&a[..], &b[..]].concat();
                assert_eq!(Superblock::decode_page(&page), Err(defects[i.max(j)]));
            }
            let page = [&a[..], &good[..]].concat();
            assert_eq!(Superblock::decode_page(&page), Ok(example()));
        }
    }

    #[test]
    fn features_decide() {
        let mut record = example().encode_record();
        record[24] = 5;
        let read_only = Superblock::decode_page(&sealed(record.clone())).unwrap();
        assert_eq!(read_only.unknown_read_only_compatible(), 5);
        assert_eq!(example().unknown_read_only_compatible(), 0);
        record[39] = 0x80;
        let newer = Err(SlotDefect::Newer { version: 1, features: 1 << 63 });
        assert_eq!(Superblock::decode_page(&sealed(record.clone())), newer);
        record[8] = 0;
        let invalid = Err(SlotDefect::Invalid("format version"));
        assert_eq!(Superblock::decode_page(&sealed(record)), invalid);
    }

    #[test]
    fn what_no_writer_wrote_is_invalid() {
        let run = |start, pages| Run { start, pages };
        let good = example();
        for (what, bad) in [
            ("page size", Superblock { page_size: 2048, ..good }),
            ("page size", Superblock { page_size: 131_072, ..good }),
            ("page size", Superblock { page_size: 5000, ..good }),
            ("generation", Superblock { generation: 0, salt: salt_of(ID, 0), ..good }),
            ("salt", Superblock { salt: good.salt ^ 1, ..good }),
            ("salt", Superblock { generation: 8, ..good }),
            ("salt", Superblock { store_id: ID ^ (1 << 127), ..good }),
            ("checkpoint extent", Superblock { checkpoint: run(1, 3), ..good }),
            ("checkpoint extent", Superblock { checkpoint: run(2050, 0), ..good }),
            ("checkpoint extent", Superblock { checkpoint: run(u64::MAX, 3), ..good }),
            ("journal extent", Superblock { journal: run(2, 0), ..good }),
            ("journal extent", Superblock { journal: run(0, 9), ..good }),
            ("journal extent", Superblock { journal: run(3, 1 << 48), ..good }),
            ("checkpoint and journal overlap", Superblock { journal: run(2, 2049), ..good }),
            ("checkpoint length", Superblock { checkpoint_len: 3 * 4096 + 1, ..good }),
        ] {
            let found = Superblock::decode_page(&bad.encode_record());
            assert_eq!(found, Err(SlotDefect::Invalid(what)), "{bad:?}");
        }
        let full = Superblock { checkpoint_len: 3 * 4096, ..good };
        assert_eq!(Superblock::decode_page(&full.encode_page()), Ok(full));
    }

    proptest! {
        #[test]
        fn a_slot_comes_back(
            shift in 12u32..17,
            compatible: u64,
            read_only_compatible: u64,
            store_id: u128,
            generation in 1u64..MAX_GENERATION,
            checkpoint in (2u64..1 << 40, 1u64..1 << 40),
            gap in 0u64..1 << 40,
            journal_pages in 1u64..1 << 40,
            part in 0u64..=1 << 52,
        ) {
            let page_size = 1 << shift;
            let checkpoint = Run { start: checkpoint.0, pages: checkpoint.1 };
            let superblock = Superblock {
                page_size,
                compatible,
                read_only_compatible,
                incompatible: 0,
                store_id,
                generation,
                salt: salt_of(store_id, generation),
                checkpoint,
                checkpoint_len: part.min(checkpoint.bytes(page_size)),
                journal: Run { start: checkpoint.end() + gap, pages: journal_pages },
                superseded: 0,
            };
            let page = superblock.encode_page();
            prop_assert_eq!(page.len(), page_size as usize);
            prop_assert_eq!(Superblock::decode_page(&page), Ok(superblock));
        }

        #[test]
        fn any_bytes_give_an_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..1200),
            body in prop::collection::vec(any::<u8>(), CRC_AT..=CRC_AT),
        ) {
            prop_assert!(Superblock::decode_page(&bytes).is_err());
            let mut record = [&body[..], &[0; 4]].concat();
            record[..8].copy_from_slice(&MAGIC);
            record[8..12].copy_from_slice(&[1, 0, 0, 0]);
            record[32..40].fill(0);
            let sealed = sealed(record);
            let invalid = matches!(Superblock::decode_page(&sealed), Err(SlotDefect::Invalid(_)));
            prop_assert!(invalid);
        }
    }
}
