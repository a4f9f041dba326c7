//! Changing the bytes of a region.

use std::io::Write;

use allod_core::{Error, Region};

use crate::bench::*;
use crate::refused;

pub fn an_append_answers_where_it_starts<B: Bench>() {
    let store = store(&B::fresh());
    let a = store.create_region("a").unwrap();
    assert_eq!(a.append(b"one").unwrap(), 0);
    assert_eq!(a.append(b"two").unwrap(), 3);
    assert_eq!(a.read_all().unwrap(), b"onetwo");
}

pub fn appending_within_the_capacity_moves_nothing<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", &pattern(1, 100));
    a.reserve(20_000).unwrap();
    store.flush().unwrap();
    let (capacity, start) = (a.capacity().unwrap(), store.regions()[0].start);
    assert!(capacity >= 20_000);
    for i in 0..19 {
        a.append(&pattern(i, 1000)).unwrap();
        store.flush().unwrap();
        assert_eq!((a.capacity().unwrap(), store.regions()[0].start), (capacity, start));
    }
}

pub fn exactly_the_capacity_stays_and_one_byte_more_grows<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = store.create_region("a").unwrap();
    a.append(b"x").unwrap();
    store.flush().unwrap();
    let capacity = a.capacity().unwrap();
    a.append(&pattern(1, capacity as usize - 1)).unwrap();
    assert_eq!(a.len().unwrap(), capacity);
    assert_eq!(a.capacity().unwrap(), capacity);
    store.flush().unwrap();
    assert_eq!(a.capacity().unwrap(), capacity);
    a.append(b"y").unwrap();
    store.flush().unwrap();
    assert!(a.capacity().unwrap() > capacity);
    let mut expected = b"x".to_vec();
    expected.extend(pattern(1, capacity as usize - 1));
    expected.push(b'y');
    assert!(after_death(&bench)["a"] == expected);
}

pub fn an_overwrite_inside_keeps_the_length_and_the_rest<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let mut expected = pattern(1, 50_000);
    let a = region(&store, "a", &expected);
    for flushed in [false, true, true] {
        if flushed {
            store.flush().unwrap();
        }
        for (at, n) in [(0, 1), (4095, 2), (4096, 4096), (10_000, 20_000), (49_999, 1), (7, 0)] {
            let bytes = pattern(at as u64 + u64::from(flushed), n);
            a.write_at(at as u64, &bytes).unwrap();
            expected[at..at + n].copy_from_slice(&bytes);
            assert!(a.read_all().unwrap() == expected, "{n} at {at}");
        }
    }
    store.flush().unwrap();
    assert!(after_death(&bench)["a"] == expected);
}

pub fn an_overwrite_at_or_across_the_end_appends<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"0123456789");
    a.write_at(10, b"abc").unwrap();
    assert_eq!(a.read_all().unwrap(), b"0123456789abc");
    a.write_at(12, b"CDE").unwrap();
    assert_eq!(a.read_all().unwrap(), b"0123456789abCDE");
    store.flush().unwrap();
    let more = pattern(1, 200_000);
    a.write_at(14, &more).unwrap();
    let mut expected = b"0123456789abCD".to_vec();
    expected.extend_from_slice(&more);
    assert!(a.read_all().unwrap() == expected);
}

pub fn zero_bytes_change_nothing<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"abc");
    store.flush().unwrap();
    assert_eq!(a.append(b"").unwrap(), 3);
    a.write_at(0, b"").unwrap();
    a.write_at(3, b"").unwrap();
    a.truncate_write(3, b"").unwrap();
    a.truncate(3).unwrap();
    assert_eq!(a.read_all().unwrap(), b"abc");
    assert_eq!(store.flush().unwrap().syncs, 0, "nothing changed");
}

pub fn one_mebibyte_in_one_write<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let bytes = pattern(1, 1 << 20);
    let a = region(&store, "a", &bytes);
    assert!(a.read_all().unwrap() == bytes);
    store.flush().unwrap();
    let again = pattern(2, 1 << 20);
    a.write_at(0, &again).unwrap();
    assert!(a.read_all().unwrap() == again);
    store.flush().unwrap();
    assert!(after_death(&bench)["a"] == again);
}

pub fn sizes_from_four_bytes_to_ten_thousand_mixed<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = store.create_region("a").unwrap();
    let mut expected = Vec::new();
    for (i, size) in [4, 10_000, 100, 1000, 4096, 5, 4095, 4097, 8192, 63].into_iter().enumerate() {
        let bytes = pattern(i as u64, size);
        assert_eq!(a.append(&bytes).unwrap(), expected.len() as u64);
        expected.extend(bytes);
        assert!(a.read_all().unwrap() == expected);
        if i % 3 == 0 {
            store.flush().unwrap();
            assert!(after_death(&bench)["a"] == expected);
        }
    }
}

pub fn sizes_around_every_power_of_two<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    for shift in 9..19 {
        for n in [(1 << shift) - 1, 1 << shift, (1 << shift) + 1] {
            let a = region(&store, &format!("{n} at once"), &pattern(n as u64, n));
            a.append(&pattern(5, n)).unwrap();
            let b = store.create_region(&format!("{n} in parts")).unwrap();
            for part in pattern(n as u64, n).chunks(n / 3 + 1) {
                b.append(part).unwrap();
            }
            b.append(&pattern(5, n)).unwrap();
            assert!(a.read_all().unwrap() == b.read_all().unwrap(), "{n}");
        }
        store.flush().unwrap();
    }
    let live = content(&store);
    assert!(after_death(&bench) == live);
    for (name, bytes) in live {
        let n: usize = name.split(' ').next().unwrap().parse().unwrap();
        assert!(bytes[..n] == pattern(n as u64, n) && bytes[n..] == pattern(5, n), "{name}");
    }
}

pub fn a_thousand_bytes_ten_times_grow_step_by_step<B: Bench>() {
    let store = store(&B::fresh());
    let a = store.create_region("a").unwrap();
    for i in 0..10 {
        assert_eq!(a.append(&pattern(i, 1000)).unwrap(), i * 1000);
        store.flush().unwrap();
        assert!(a.capacity().unwrap() >= (i + 1) * 1000);
    }
    for i in 0..10 {
        assert_eq!(a.read(i * 1000, 1000).unwrap(), pattern(i, 1000));
    }
}

pub fn many_small_writes_in_place<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let mut expected = pattern(1, 100_000);
    let a = region(&store, "a", &expected);
    store.flush().unwrap();
    for i in 0..2000usize {
        let at = i * 7919 % 99_990;
        let bytes = pattern(i as u64, 8);
        a.write_at(at as u64, &bytes).unwrap();
        expected[at..at + 8].copy_from_slice(&bytes);
        if i % 500 == 0 {
            store.flush().unwrap();
        }
    }
    assert!(a.read_all().unwrap() == expected);
    store.flush().unwrap();
    assert!(after_death(&bench)["a"] == expected);
}

pub fn replace_sets_the_whole_content<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &pattern(1, 10_000));
    for size in [0, 1, 5000, 3_000_000, 10, 0, 70_000] {
        let bytes = pattern(size as u64, size);
        a.replace(&bytes).unwrap();
        assert!(a.read_all().unwrap() == bytes, "{size}");
        store.flush().unwrap();
        assert!(after_death(&bench)["a"] == bytes, "{size}");
    }
}

pub fn past_the_end_is_an_error<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"abc");
    let id = a.id();
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        for at in [4, 5, 4096, 1 << 47, u64::MAX - 1, u64::MAX] {
            for bytes in [&b""[..], b"x"] {
                refused!(
                    a.write_at(at, bytes),
                    Error::OutOfRange { id: i, offset, len, region_len: 3 }
                        if i == id && offset == at && len == bytes.len() as u64
                );
                refused!(a.truncate_write(at, bytes), Error::OutOfRange { .. });
            }
            refused!(a.truncate(at), Error::OutOfRange { region_len: 3, .. });
        }
        assert_eq!(a.read_all().unwrap(), b"abc");
    }
    assert_eq!(store.flush().unwrap().syncs, 0, "nothing changed");
}

pub fn room_past_the_limit_is_refused<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", b"abc");
    for len in [(1 << 47) + 1, 1 << 60, u64::MAX] {
        refused!(a.reserve(len), Error::TooLarge { requested, .. } if requested == len);
    }
    assert_eq!(a.read_all().unwrap(), b"abc");
    a.append(b"d").unwrap();
    store.flush().unwrap();
    assert_eq!(after_death(&bench)["a"], b"abcd");
}

pub fn reserving_changes_no_bytes<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &pattern(1, 5000));
    let empty = store.create_region("empty").unwrap();
    empty.reserve(0).unwrap();
    for room in [0, 10, 5000, 50_000, 300_000, 1000] {
        a.reserve(room).unwrap();
        empty.reserve(room).unwrap();
        assert!(a.capacity().unwrap() >= room);
        assert!(empty.capacity().unwrap() >= room);
        assert_eq!(a.read_all().unwrap(), pattern(1, 5000));
        assert!(empty.is_empty().unwrap());
        store.flush().unwrap();
    }
    let left = reopen(&bench.copy());
    assert!(left.region("a").unwrap().capacity().unwrap() >= 300_000);
    assert_eq!(content(&left), content(&store));
}

fn refuses_everybody<B: Bench>(a: &Region<B::Platform>) {
    refused!(a.append(b"x"), Error::AppenderActive { .. });
    refused!(a.append(&pattern(1, 2 << 20)), Error::AppenderActive { .. });
    refused!(a.write_at(0, b"x"), Error::AppenderActive { .. });
    refused!(a.truncate(0), Error::AppenderActive { .. });
    refused!(a.truncate_write(0, b"x"), Error::AppenderActive { .. });
    refused!(a.replace(b"x"), Error::AppenderActive { .. });
    refused!(a.replace(&pattern(1, 2 << 20)), Error::AppenderActive { .. });
    refused!(a.appender(), Error::AppenderActive { .. });
    refused!(a.remove(), Error::AppenderActive { id } if id == a.id());
}

pub fn an_appender_has_the_region_to_itself<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", b"start ");
    let b = region(&store, "b", b"free");
    let mut appender = a.appender().unwrap();
    refuses_everybody::<B>(&a);
    assert_eq!(appender.append(b"one ").unwrap(), 6);
    store.flush().unwrap();
    refuses_everybody::<B>(&a);
    refused!(store.remove_region("a"), Error::AppenderActive { .. });
    refused!(store.retain_regions(|name| name == "b"), Error::AppenderActive { .. });
    b.append(b" still").unwrap();
    a.rename("renamed").unwrap();
    assert_eq!(appender.region().name().unwrap(), "renamed");
    write!(appender, "two {}", 3).unwrap();
    appender.flush().unwrap();
    assert_eq!(a.read_all().unwrap(), b"start one two 3");
    store.checkpoint().unwrap();
    refuses_everybody::<B>(&a);
    drop(appender);
    a.append(b".").unwrap();
    a.appender().unwrap().append(b"!").unwrap();
    store.flush().unwrap();
    assert_eq!(after_death(&bench)["renamed"], b"start one two 3.!");
    a.remove().unwrap();
}

pub fn an_appender_takes_a_lot<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = store.create_region("a").unwrap();
    let mut appender = a.appender().unwrap();
    let mut expected = Vec::new();
    for i in 0..3000u64 {
        let bytes = pattern(i, (i * 31 % 700) as usize);
        assert_eq!(appender.append(&bytes).unwrap(), expected.len() as u64);
        expected.extend(bytes);
        if i % 1000 == 999 {
            store.flush().unwrap();
            assert!(after_death(&bench)["a"] == expected);
        }
    }
    assert!(a.read_all().unwrap() == expected);
}
