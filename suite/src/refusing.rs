//! Places that are no store, or one that cannot be written.

use allod_core::{Create, Error, Options, Platform, PlatformErrorKind, Store};

use crate::bench::*;
use crate::refused;

fn refuses_changes<P: Platform>(store: &Store<P>) {
    assert!(store.is_read_only());
    let a = store.region("a").unwrap();
    refused!(store.create_region("new"), Error::ReadOnly);
    refused!(store.region_or_create("new"), Error::ReadOnly);
    assert_eq!(store.region_or_create("a").unwrap(), a);
    refused!(store.remove_region("a"), Error::ReadOnly);
    refused!(store.remove_region("none"), Error::ReadOnly);
    refused!(store.retain_regions(|_| true), Error::ReadOnly);
    refused!(store.rename_region("a", "b"), Error::ReadOnly);
    refused!(store.reserve_len(1 << 20), Error::ReadOnly);
    refused!(store.checkpoint(), Error::ReadOnly);
    refused!(a.append(b"x"), Error::ReadOnly);
    refused!(a.append(b""), Error::ReadOnly);
    refused!(a.write_at(0, b"x"), Error::ReadOnly);
    refused!(a.truncate(0), Error::ReadOnly);
    refused!(a.truncate_write(0, b"x"), Error::ReadOnly);
    refused!(a.replace(b"x"), Error::ReadOnly);
    refused!(a.reserve(1 << 20), Error::ReadOnly);
    refused!(a.rename("b"), Error::ReadOnly);
    refused!(a.remove(), Error::ReadOnly);
    refused!(a.appender(), Error::ReadOnly);
    assert_eq!(store.flush().unwrap().syncs, 0);
    assert_eq!(store.hold().unwrap().flush().unwrap().syncs, 0);
    assert_eq!(store.poisoned(), None);
}

/// A store whose journal has images that are not in place everywhere, and what it holds.
fn used<B: Bench>() -> (B, Content) {
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", &pattern(1, 60_000));
    live.flush().unwrap();
    live.checkpoint().unwrap();
    for i in 0..9 {
        a.write_at(i * 5000, &pattern(i, 300)).unwrap();
    }
    region(&live, "b", b"bytes");
    live.flush().unwrap();
    let expected = content(&live);
    drop((live, a));
    (bench, expected)
}

pub fn a_store_opened_for_reading_refuses_every_change<B: Bench>() {
    let (bench, expected) = used::<B>();
    let bytes = bench.bytes();
    let live = Options::new().read_only(true).open(bench.platform()).unwrap();
    refuses_changes(&live);
    assert!(content(&live) == expected);
    drop(live);
    let also = Options::new().read_only(true).min_len(10 << 20).open(bench.platform()).unwrap();
    assert!(content(&also) == expected);
    drop(also);
    assert!(bench.bytes() == bytes, "reading changed the bytes");
}

pub fn a_platform_that_cannot_be_written_opens_for_reading<B: Bench>() {
    let (bench, expected) = used::<B>();
    let bytes = bench.bytes();
    let Some(platform) = bench.open_read_only() else { return };
    let live = Options::new().open(platform).unwrap();
    refuses_changes(&live);
    assert!(content(&live) == expected);
    assert!(bench.bytes() == bytes);
    drop(live);
    let platform = bench.open_read_only().unwrap();
    refused!(Options::new().create(Create::Always).open(platform), Error::StoreExists);
}

pub fn no_store_is_made_for_reading<B: Bench>() {
    let bench = B::fresh();
    let read_only = Options::new().read_only(true);
    for create in [Create::IfMissing, Create::Always] {
        refused!(read_only.clone().create(create).open(bench.platform()), Error::ReadOnly);
    }
    refused!(read_only.create(Create::Never).open(bench.platform()), Error::NoStore);
    assert!(bench.bytes().is_empty());
}

pub fn a_second_writer_is_refused<B: Bench>() {
    if !B::LOCKS {
        return;
    }
    let bench = B::fresh();
    let live = store(&bench);
    let a = region(&live, "a", b"x");
    assert_eq!(bench.open().err().unwrap().kind, PlatformErrorKind::Locked);
    drop(live);
    assert!(bench.open().is_err(), "a region keeps the store open");
    a.flush().unwrap();
    drop(a);
    assert_eq!(content(&reopen(&bench))["a"], b"x");
}

pub fn bytes_that_are_no_store_are_refused_and_kept<B: Bench>() {
    let texts: Vec<Vec<u8>> = vec![
        b"x".to_vec(),
        b"hello, world".to_vec(),
        b"allod".to_vec(),
        vec![0xff; 4096],
        pattern(1, 5000),
        pattern(2, 100_000),
        b"PK\x03\x04".repeat(5000),
        [vec![0; 512], pattern(3, 20_000)].concat(),
    ];
    for text in texts {
        let bench = B::holding(&text);
        for create in [Create::IfMissing, Create::Never, Create::Always] {
            for read_only in [false, true] {
                let options = Options::new().create(create).read_only(read_only);
                match options.open(bench.platform()) {
                    Err(Error::NotAStore { len, .. }) => assert_eq!(len, text.len() as u64),
                    Err(Error::Damaged(_)) => {}
                    other => panic!("{} bytes of {:02x?}…: {other:?}", text.len(), &text[..1]),
                }
            }
        }
        assert!(bench.bytes() == text, "refusing changed the bytes");
    }
}

pub fn zeros_with_something_behind_them_are_not_overwritten<B: Bench>() {
    // A file whose head was wiped holds somebody's bytes, though no crash of a creation does this.
    let mut wiped = used::<B>().0.bytes();
    wiped[..8192].fill(0);
    let bench = B::holding(&wiped);
    match small().open(bench.platform()) {
        Err(_) => assert!(bench.bytes() == wiped),
        Ok(_) => panic!("a store whose slots are gone was made anew"),
    }
}

pub fn a_newer_store_is_refused<B: Bench>() {
    let (bench, _) = used::<B>();
    let bytes = bench.bytes();
    for (at, len) in [(8usize, 4usize), (32, 8)] {
        for both in [true, false] {
            let mut newer = bytes.clone();
            for (number, record) in newer[..8192].chunks_mut(512).enumerate() {
                if record[..5] != *b"allod" || (!both && number % 2 == 0) {
                    continue;
                }
                record[at..at + len].fill(0);
                record[at] = 0x82;
                let sum = crc32(&record[..508]);
                record[508..].copy_from_slice(&sum.to_le_bytes());
            }
            let bench = B::holding(&newer);
            match small().open(bench.platform()) {
                Err(Error::Newer { supported: 1, .. }) => {}
                // Half of the copies are of this version: they are as good as all.
                Ok(_) if !both => {}
                other => panic!("{other:?}"),
            }
            refused_or_same(&bench, &newer, both);
        }
    }
}

fn refused_or_same<B: Bench>(bench: &B, bytes: &[u8], refused: bool) {
    if refused {
        assert!(bench.bytes() == bytes);
    }
}

pub fn features_that_forbid_writing_allow_reading<B: Bench>() {
    let (bench, expected) = used::<B>();
    let mut newer = bench.bytes();
    for record in newer[..8192].chunks_mut(512) {
        if record[..5] == *b"allod" {
            record[24] = 0x10;
            let sum = crc32(&record[..508]);
            record[508..].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let bench = B::holding(&newer);
    refused!(small().open(bench.platform()), Error::Newer { features: 0x10, .. });
    let live = small().read_only(true).open(bench.platform()).unwrap();
    assert!(content(&live) == expected);
}

/// CRC-32/ISO-HDLC, as FORMAT.md states it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}
