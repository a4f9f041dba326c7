//! Making regions shorter.

use allod_core::Error;

use crate::bench::*;
use crate::refused;

pub fn shorter_equal_and_to_zero_work_and_longer_is_refused<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let bytes = pattern(1, 20_000);
    let a = region(&store, "a", &bytes);
    for len in [20_000, 19_999, 8192, 8191, 8191, 1, 0, 0] {
        refused!(a.truncate(a.len().unwrap() + 1), Error::OutOfRange { .. });
        a.truncate(len as u64).unwrap();
        assert_eq!(a.len().unwrap(), len as u64);
        assert!(a.read_all().unwrap() == bytes[..len]);
        store.flush().unwrap();
        assert!(after_death(&bench)["a"] == bytes[..len], "{len}");
    }
    assert!(store.contains("a"));
}

pub fn an_emptied_region_stays_readable_and_grows_again<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &pattern(1, 9000));
    store.flush().unwrap();
    a.truncate(0).unwrap();
    store.flush().unwrap();
    assert_eq!(a.read_all().unwrap(), b"");
    drop((store, a));
    let store = reopen(&bench);
    let a = store.region("a").unwrap();
    assert!(a.is_empty().unwrap());
    a.append(b"back").unwrap();
    store.flush().unwrap();
    assert_eq!(after_death(&bench)["a"], b"back");
}

pub fn truncate_then_write_sets_the_length<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &pattern(1, 10_000));
    let mut expected = pattern(1, 10_000);
    for (at, n) in [(5000, 100), (0, 10_000), (10_000, 10), (4096, 0), (4096, 1), (100, 200_000)] {
        let bytes = pattern(at as u64, n);
        a.truncate_write(at as u64, &bytes).unwrap();
        expected.truncate(at);
        expected.extend(bytes);
        assert!(a.read_all().unwrap() == expected, "{n} at {at}");
        store.flush().unwrap();
        assert!(after_death(&bench)["a"] == expected, "{n} at {at}");
    }
}

pub fn ten_alternations_of_truncating_and_writing<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = store.create_region("a").unwrap();
    let mut expected = Vec::new();
    for i in 0..10usize {
        let bytes = pattern(i as u64, 3000 + i * 1111);
        a.append(&bytes).unwrap();
        expected.extend(bytes);
        if i % 2 == 0 {
            store.flush().unwrap();
        }
        let len = expected.len() * 2 / 3;
        a.truncate(len as u64).unwrap();
        expected.truncate(len);
        assert!(a.read_all().unwrap() == expected);
        if i % 3 == 0 {
            store.flush().unwrap();
            assert!(after_death(&bench)["a"] == expected);
        }
    }
}

pub fn what_was_cut_off_never_comes_back<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &[0xee; 100_000]);
    store.flush().unwrap();
    for len in [70_000u64, 4097, 4000, 1] {
        a.truncate(len).unwrap();
        a.append(b"|").unwrap();
        store.flush().unwrap();
        a.append(&[0x11; 5000]).unwrap();
        let all = a.read_all().unwrap();
        assert!(all[len as usize + 1..].iter().all(|byte| *byte == 0x11), "{len}");
        store.flush().unwrap();
        assert!(after_death(&bench)["a"] == all);
    }
}

pub fn truncated_and_grown_again_between_two_flushes<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    for (i, flush_between) in [(0, false), (1, true)] {
        let a = region(&store, &format!("r{i}"), &pattern(1, 200_000));
        store.flush().unwrap();
        a.truncate(10_000).unwrap();
        if flush_between {
            store.flush().unwrap();
        }
        a.append(&pattern(2, 150_000)).unwrap();
        a.truncate(50_000).unwrap();
        a.append(&pattern(3, 80_000)).unwrap();
        let mut expected = pattern(1, 10_000);
        expected.extend(&pattern(2, 150_000)[..40_000]);
        expected.extend(pattern(3, 80_000));
        assert!(a.read_all().unwrap() == expected);
        store.flush().unwrap();
        assert!(after_death(&bench)[&format!("r{i}")] == expected);
    }
}
