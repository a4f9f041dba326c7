//! Tests of checkpoints: their bytes, every way in which they can be damaged, and random ones.

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
        superseded: 0,
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
    assert_eq!(checkpoint.carried, pages.len() as u64);
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
    assert_eq!(w.bytes.len(), 76 + 8 + 6 + 12 + 4 + 3);
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
    let before = w.bytes.len();
    w.region((1 << 20 >> 1) + 1, names[1], run(516, 16), 65_536);
    let added = w.bytes.len() - before;
    assert!(added <= 24, "{added}");
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
        let bytes = w.finish();
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
