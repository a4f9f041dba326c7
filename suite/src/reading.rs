//! Reading: ranges, errors, and snapshots that stay as they were whatever happens (promise 3).

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};

use allod_core::{Error, Reader, Region};

use crate::bench::*;
use crate::refused;

pub fn all_a_range_and_to_the_end<B: Bench>() {
    let store = store(&B::fresh());
    let bytes = pattern(1, 300_000);
    let a = region(&store, "a", &bytes);
    for at_rest in [false, true] {
        if at_rest {
            store.checkpoint().unwrap();
        }
        let reader = a.reader().unwrap();
        assert_eq!((reader.len(), reader.id()), (300_000, a.id()));
        assert!(*reader.read_all().unwrap() == *bytes);
        for (at, n) in [(0, 0), (0, 1), (4095, 2), (65_535, 2), (1, 299_999), (300_000, 0)] {
            let expected = &bytes[at..at + n];
            assert!(*reader.read(at as u64, n as u64).unwrap() == *expected);
            assert!(a.read(at as u64, n as u64).unwrap() == expected);
            let mut buffer = vec![0; n];
            reader.read_into(at as u64, &mut buffer).unwrap();
            assert!(buffer == expected);
            let pieces = reader.chunks(at as u64, n as u64).unwrap();
            let pieces: Vec<u8> = pieces.flat_map(|piece| piece.unwrap().into_owned()).collect();
            assert!(pieces == expected);
            if let Some(slice) = reader.slice(at as u64, n as u64).unwrap() {
                assert!(slice == expected);
            }
        }
    }
}

pub fn out_of_range_is_an_error<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"abc");
    for at_rest in [false, true] {
        if at_rest {
            store.checkpoint().unwrap();
        }
        let reader = a.reader().unwrap();
        for (at, n) in [(0, 4), (3, 1), (4, 0), (u64::MAX, 0), (u64::MAX, 1), (1, u64::MAX)] {
            let len = 3;
            refused!(reader.read(at, n), Error::OutOfRange { region_len, .. } if region_len == len);
            refused!(reader.slice(at, n), Error::OutOfRange { .. });
            refused!(reader.chunks(at, n), Error::OutOfRange { .. });
            refused!(a.read(at, n), Error::OutOfRange { .. });
        }
        refused!(reader.read_into(2, &mut [0; 2]), Error::OutOfRange { .. });
        refused!(reader.read_into(u64::MAX, &mut []), Error::OutOfRange { .. });
    }
}

pub fn a_region_at_rest_is_one_slice_where_the_platform_maps<B: Bench>() {
    let bench = B::fresh();
    let one = store(&bench);
    region(&one, "a", &pattern(1, 500_000));
    one.checkpoint().unwrap();
    drop(one);
    let store = reopen(&bench);
    let reader = store.region("a").unwrap().reader().unwrap();
    let all = reader.read_all().unwrap();
    assert!(*all == *pattern(1, 500_000));
    assert_eq!(matches!(all, Cow::Borrowed(_)), B::MAPS);
    assert_eq!(reader.slice(1, 400_000).unwrap().is_some(), B::MAPS);
}

pub fn a_cursor_reads_and_seeks<B: Bench>() {
    let store = store(&B::fresh());
    let bytes = pattern(1, 150_000);
    let a = region(&store, "a", &bytes);
    let mut cursor = a.reader().unwrap().cursor();
    a.truncate(0).unwrap();
    let mut all = Vec::new();
    cursor.read_to_end(&mut all).unwrap();
    assert!(all == bytes);
    assert_eq!(cursor.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(cursor.seek(SeekFrom::End(-5)).unwrap(), 149_995);
    let mut five = [0; 5];
    cursor.read_exact(&mut five).unwrap();
    assert_eq!(five, bytes[149_995..]);
    assert_eq!(cursor.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
    assert_eq!(cursor.read(&mut five).unwrap(), 0);
    assert!(cursor.seek(SeekFrom::Current(1)).is_err());
    assert!(cursor.seek(SeekFrom::Start(0)).is_ok());
    assert!(cursor.seek(SeekFrom::Current(-1)).is_err());
    assert!(cursor.seek(SeekFrom::End(i64::MIN)).is_err());
}

struct Keeper<B: Bench> {
    reader: Reader<B::Platform>,
}

pub fn readers_outlive_handle_and_store_and_live_in_structs<B: Bench>() {
    let bench = B::fresh();
    let bytes = pattern(1, 100_000);
    let keepers: Vec<Keeper<B>> = {
        let store = store(&bench);
        let a = region(&store, "a", &bytes);
        let early = a.reader().unwrap();
        store.checkpoint().unwrap();
        vec![
            Keeper { reader: early },
            Keeper { reader: a.reader().unwrap() },
            Keeper { reader: a.reader().unwrap().clone() },
        ]
    };
    for keeper in &keepers {
        assert!(*keeper.reader.read_all().unwrap() == *bytes);
    }
    if B::LOCKS {
        assert!(bench.open().is_err(), "a reader keeps the file locked");
    }
    let mut keepers = keepers;
    keepers.remove(1);
    assert!(*keepers[1].reader.read_all().unwrap() == *bytes);
    drop(keepers);
    assert!(content(&reopen(&bench))["a"] == bytes);
}

/// Makes a region of `len` bytes that is fresh, flushed, flushed twice (and so has been changed in
/// place), or opened again, does something with readers alive, and checks that they saw nothing.
fn frozen<B: Bench>(len: usize, act: impl Fn(&On<B>, &Region<B::Platform>)) {
    for state in 0..5 {
        let bench = B::fresh();
        let mut live = store(&bench);
        let mut bytes = pattern(1, len);
        let mut a = region(&live, "a", &bytes);
        if state >= 1 {
            live.flush().unwrap();
        }
        if state >= 2 {
            a.write_at(0, b"overwritten").unwrap();
            bytes[..11].copy_from_slice(b"overwritten");
            live.flush().unwrap();
        }
        if state >= 3 {
            drop((a, live));
            live = reopen(&bench);
            a = live.region("a").unwrap();
        }
        if state == 4 {
            live.checkpoint().unwrap();
        }
        let reader = a.reader().unwrap();
        let slice = reader.slice(0, len as u64).unwrap();
        let check = |when: &str| {
            assert_eq!(reader.len(), len as u64);
            let now = reader.read_all().unwrap();
            if let Some(at) = now.iter().zip(&bytes).position(|(now, then)| now != then) {
                panic!("byte {at} of a reader changed {when}, state {state}");
            }
            if let Some(slice) = slice {
                assert!(slice == bytes, "a slice changed {when}, state {state}");
            }
        };
        check("at once");
        for round in 0..3 {
            if live.contains("a") || round == 0 {
                act(&live, &a);
            }
            check("after the act");
            live.flush().unwrap();
            check("after a flush");
            region(&live, &format!("other {round}"), &pattern(7, len));
            live.flush().unwrap();
            check("after another region came");
            live.checkpoint().unwrap();
            check("after a checkpoint");
            let now = content(&live);
            assert!(after_death(&bench) == now, "state {state}, round {round}");
        }
        drop((a, live));
        check("after the store is gone");
    }
}

pub fn a_reader_sees_no_append<B: Bench>() {
    frozen::<B>(10_000, |_, a| _ = a.append(&pattern(9, 5000)).unwrap());
    frozen::<B>(100_000, |_, a| _ = a.append(&pattern(9, 100_000)).unwrap());
}

pub fn a_reader_sees_no_overwrite<B: Bench>() {
    frozen::<B>(10_000, |_, a| a.write_at(3000, &pattern(9, 5000)).unwrap());
    frozen::<B>(150_000, |_, a| {
        for at in (0..140_000).step_by(5000) {
            a.write_at(at, &pattern(at, 100)).unwrap();
        }
    });
    frozen::<B>(150_000, |_, a| a.write_at(0, &pattern(9, 150_000)).unwrap());
}

pub fn a_reader_sees_no_truncation<B: Bench>() {
    frozen::<B>(10_000, |_, a| a.truncate(a.len().unwrap() / 3).unwrap());
    frozen::<B>(150_000, |_, a| {
        let half = a.len().unwrap() / 2;
        a.truncate(half).unwrap();
        a.append(&pattern(8, half as usize)).unwrap();
    });
    frozen::<B>(5000, |_, a| {
        a.truncate(0).unwrap();
        a.append(&pattern(8, 20_000)).unwrap();
    });
}

pub fn a_reader_sees_no_replacement<B: Bench>() {
    frozen::<B>(10_000, |_, a| a.replace(&pattern(9, 10_001)).unwrap());
    frozen::<B>(150_000, |_, a| a.replace(&pattern(9, 1_500_000)).unwrap());
}

pub fn a_reader_sees_no_growth_and_no_move<B: Bench>() {
    frozen::<B>(10_000, |store, a| {
        a.reserve(a.capacity().unwrap() * 2 + 1).unwrap();
        store.flush().unwrap();
        region(store, &format!("behind {}", store.len()), &pattern(3, 4096));
        store.flush().unwrap();
        a.append(&pattern(9, a.capacity().unwrap() as usize)).unwrap();
    });
}

pub fn a_reader_sees_no_removal<B: Bench>() {
    frozen::<B>(10_000, |store, a| {
        a.remove().unwrap();
        store.flush().unwrap();
        for i in 0..10 {
            region(store, &format!("new {i}"), &pattern(i, 10_000));
        }
    });
    frozen::<B>(200_000, |store, a| {
        a.remove().unwrap();
        store.flush().unwrap();
        region(store, "in its place", &pattern(4, 200_000));
    });
}

pub fn readers_of_many_moments_each_see_their_own<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = store.create_region("a").unwrap();
    let mut readers = Vec::new();
    let mut now = Vec::new();
    for i in 0..60u64 {
        match i % 6 {
            0 | 1 => {
                let bytes = pattern(i, 7000);
                a.append(&bytes).unwrap();
                now.extend(bytes);
            }
            2 => {
                let at = now.len() / 2;
                a.write_at(at as u64, &pattern(i, 50)).unwrap();
                now[at..at + 50].copy_from_slice(&pattern(i, 50));
            }
            3 => _ = store.flush().unwrap(),
            4 => {
                let len = now.len() - 1000;
                a.truncate(len as u64).unwrap();
                now.truncate(len);
            }
            _ if i % 4 == 1 => _ = store.checkpoint().unwrap(),
            _ => {}
        }
        readers.push((a.reader().unwrap(), now.clone()));
        if i % 7 == 6 {
            readers.swap_remove((i as usize * 5) % readers.len());
        }
        for (reader, then) in &readers {
            assert!(*reader.read_all().unwrap() == **then, "step {i}");
        }
    }
    store.flush().unwrap();
    assert!(after_death(&bench)["a"] == now);
}

pub fn a_reader_and_its_owner_never_wait_for_each_other<B: Bench>() {
    // All on one thread, which would wait for itself for ever.
    let store = store(&B::fresh());
    let a = region(&store, "a", &pattern(1, 50_000));
    let b = region(&store, "b", &pattern(2, 50_000));
    let (of_a, of_b) = (a.reader().unwrap(), b.reader().unwrap());
    a.write_at(0, &pattern(3, 50_000)).unwrap();
    b.truncate(0).unwrap();
    a.append(&pattern(3, 3_000_000)).unwrap();
    store.flush().unwrap();
    store.checkpoint().unwrap();
    b.remove().unwrap();
    store.flush().unwrap();
    assert!(*of_a.read_all().unwrap() == *pattern(1, 50_000));
    assert!(*of_b.read_all().unwrap() == *pattern(2, 50_000));
}
