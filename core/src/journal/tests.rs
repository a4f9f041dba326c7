//! Tests of batches: their bytes, every way in which they can be damaged, and random ones.

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
    assert_eq!((w.bytes.len(), w.entries), (117, 7));
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
    assert_eq!((batch.next_id(), batch.len()), (300, 117));
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
        let before = w.bytes.len();
        w.bytes(page, 4000, false, &[7; 90]);
        w.bytes(page, 0, true, &[7; 4096]);
        assert!(w.bytes.len() - before - 90 - 4096 <= 8 + 4);
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
        ("journal region length", Some(5), &[0x41, 5, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]),
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
            Self::Bytes(page, offset, full, ref data) => Entry::Bytes { page, offset, full, data },
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
        let bytes = w.finish();
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

#[test]
fn a_mark_is_what_the_format_says() {
    let mark = Mark { store_id: ID, salt: SALT, sequence: 9 };
    let bytes = mark.encode();
    assert_eq!(bytes.len(), Mark::LEN);
    assert_eq!(bytes[..8], *b"allodack");
    assert_eq!(bytes[8..24], ID.to_le_bytes());
    assert_eq!(bytes[24..32], SALT.to_le_bytes());
    assert_eq!(bytes[32..40], [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Mark::decode(&bytes), Some(mark));
    for bit in 0..Mark::LEN * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Mark::decode(&flipped), None, "bit {bit}");
    }
    for len in 0..Mark::LEN {
        assert_eq!(Mark::decode(&bytes[..len]), None);
    }
}
