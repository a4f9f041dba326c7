//! Making regions, and making stores.

use allod_core::{Create, Error, Options};

use crate::bench::*;
use crate::refused;

pub fn a_new_store_is_empty<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    assert!(store.is_empty());
    assert_eq!(store.len(), 0);
    assert!(store.regions().is_empty());
    assert!(store.region("a").is_none());
    assert!(!store.contains("a"));
    assert!(!store.is_read_only());
    assert_eq!(store.poisoned(), None);
}

pub fn a_new_region_is_empty<B: Bench>() {
    let store = store(&B::fresh());
    let region = store.create_region("a").unwrap();
    assert_eq!(region.len().unwrap(), 0);
    assert!(region.is_empty().unwrap());
    assert_eq!(region.name().unwrap(), "a");
    assert_eq!(region.read_all().unwrap(), b"");
    assert_eq!(region.read(0, 0).unwrap(), b"");
    assert!(region.reader().unwrap().is_empty());
    assert_eq!(store.len(), 1);
}

pub fn creating_twice_is_refused<B: Bench>() {
    let store = store(&B::fresh());
    let first = region(&store, "a", b"kept");
    refused!(store.create_region("a"), Error::RegionExists { name } if &*name == "a");
    assert_eq!(first.read_all().unwrap(), b"kept");
    assert_eq!(store.len(), 1);
}

pub fn region_or_create_gives_the_same_region_twice<B: Bench>() {
    let store = store(&B::fresh());
    let first = store.region_or_create("a").unwrap();
    first.append(b"once").unwrap();
    let second = store.region_or_create("a").unwrap();
    assert_eq!(first, second);
    assert_eq!(first.id(), second.id());
    assert_eq!(second.read_all().unwrap(), b"once");
}

pub fn ids_are_never_used_again<B: Bench>() {
    let bench = B::fresh();
    let one = store(&bench);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let region = one.create_region("a").unwrap();
        ids.push(region.id());
        region.remove().unwrap();
        one.flush().unwrap();
    }
    one.create_region("never flushed").unwrap();
    let kept = one.create_region("kept").unwrap();
    ids.push(kept.id());
    one.flush().unwrap();
    drop((one, kept));
    let two = reopen(&bench);
    assert_eq!(two.region("kept").unwrap().id(), ids[3]);
    ids.push(two.create_region("b").unwrap().id());
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

pub fn a_name_is_free_again_after_removal<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let first = region(&store, "a", &pattern(1, 10_000));
    store.flush().unwrap();
    first.remove().unwrap();
    let second = store.create_region("a").unwrap();
    assert_eq!(second.len().unwrap(), 0);
    assert_ne!(first, second);
    second.append(b"new").unwrap();
    store.flush().unwrap();
    assert_eq!(after_death(&bench)["a"], b"new");
    refused!(first.len(), Error::RegionRemoved { .. });
}

pub fn many_small_regions<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    store.reserve_regions(1000, 8).unwrap();
    for i in 0..1000u64 {
        region(&store, &format!("region {i}"), &pattern(i, i as usize % 40));
    }
    store.flush().unwrap();
    let left = after_death(&bench);
    assert_eq!(left.len(), 1000);
    for i in 0..1000u64 {
        assert_eq!(left[&format!("region {i}")], pattern(i, i as usize % 40));
    }
}

pub fn names_of_any_length_up_to_the_limit<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let names = ["x".repeat(1000), "y".repeat(1024), "ä".repeat(512), "z".into(), " ".into()];
    for (i, name) in names.iter().enumerate() {
        region(&store, name, &pattern(i as u64, 100));
        assert_eq!(store.region(name).unwrap().name().unwrap(), *name);
    }
    store.flush().unwrap();
    let left = after_death(&bench);
    for (i, name) in names.iter().enumerate() {
        assert_eq!(left[name], pattern(i as u64, 100));
    }
}

pub fn names_with_odd_characters<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let names =
        ["../a/b", "a b", "\"'\\", "日本語", "🦀", "\u{200b}", "\u{feff}", "é", "e\u{301}", "%00"];
    for name in names {
        region(&store, name, name.as_bytes());
    }
    store.checkpoint().unwrap();
    let left = after_death(&bench);
    assert_eq!(left.len(), names.len());
    for name in names {
        assert_eq!(left[name], name.as_bytes());
    }
}

pub fn bad_names_are_refused_everywhere<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"kept");
    let long = "x".repeat(1025);
    let wide = format!("{}ä", "x".repeat(1023));
    for name in ["", &long, &wide, "a\0b", "\n", "tab\t", "\u{7f}", "ä\u{85}", "\u{9f}"] {
        refused!(store.create_region(name), Error::InvalidName { len, .. } if len == name.len());
        refused!(store.region_or_create(name), Error::InvalidName { .. });
        refused!(a.rename(name), Error::InvalidName { .. });
        refused!(store.rename_region("a", name), Error::InvalidName { .. });
        assert!(store.region(name).is_none());
        assert!(!store.contains(name));
        refused!(store.remove_region(name), Error::NoRegion { .. });
    }
    refused!(store.create_region("ä\n"), Error::InvalidName { len: 3, position: Some(2) });
    refused!(store.create_region(""), Error::InvalidName { len: 0, position: None });
    assert_eq!(store.len(), 1);
    assert_eq!(a.name().unwrap(), "a");
}

pub fn a_minimum_length_is_there_from_the_start<B: Bench>() {
    let bench = B::fresh();
    let store = small().min_len(3_000_000).open(bench.platform()).unwrap();
    let len = bench.bytes().len();
    assert!(len >= 3_000_000, "{len}");
    region(&store, "a", &pattern(1, 100_000));
    store.flush().unwrap();
    assert_eq!(bench.bytes().len(), len, "there was room");
    store.reserve_len(5_000_000).unwrap();
    assert!(bench.bytes().len() >= 5_000_000);
    store.reserve_len(10).unwrap();
    assert!(bench.bytes().len() >= 5_000_000);
    assert_eq!(after_death(&bench)["a"], pattern(1, 100_000));
}

pub fn a_minimum_length_also_lengthens_a_store_that_is_there<B: Bench>() {
    let bench = B::fresh();
    region(&store(&bench), "a", b"x").flush().unwrap();
    let before = bench.bytes().len() as u64;
    let store = small().min_len(before + 1_000_000).open(bench.platform()).unwrap();
    assert!(bench.bytes().len() as u64 >= before + 1_000_000);
    assert_eq!(content(&store)["a"], b"x");
    store.region("a").unwrap().append(b"y").unwrap();
    store.flush().unwrap();
    assert_eq!(after_death(&bench)["a"], b"xy");
}

pub fn a_length_that_no_machine_has_is_refused<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    region(&store, "a", b"kept");
    assert!(store.reserve_len(u64::MAX).is_err());
    store.flush().unwrap();
    assert_eq!(content(&store)["a"], b"kept");
    drop(store);
    assert!(small().min_len(u64::MAX).open(bench.platform()).is_err());
    assert_eq!(content(&reopen(&bench))["a"], b"kept");
}

pub fn options_say_whether_a_store_may_be_made<B: Bench>() {
    let bench = B::fresh();
    refused!(Options::new().create(Create::Never).open(bench.platform()), Error::NoStore);
    assert!(bench.bytes().is_empty());
    drop(Options::new().create(Create::Always).open(bench.platform()).unwrap());
    let bytes = bench.bytes();
    refused!(Options::new().create(Create::Always).open(bench.platform()), Error::StoreExists);
    assert!(bench.bytes() == bytes, "refusing changed the bytes");
    drop(Options::new().create(Create::Never).open(bench.platform()).unwrap());
    drop(Options::new().open(bench.platform()).unwrap());
    assert!(bench.bytes() == bytes, "opening changed the bytes");
}

pub fn extreme_options_work<B: Bench>() {
    let tiny = Options::new().journal_size(0).inline_limit(0).memory_budget(0);
    let huge =
        Options::new().inline_limit(u64::MAX).memory_budget(usize::MAX).journal_size(16 << 20);
    for options in [tiny, huge] {
        let bench = B::fresh();
        let store = options.open(bench.platform()).unwrap();
        let a = region(&store, "a", &pattern(1, 300_000));
        store.flush().unwrap();
        a.write_at(150_000, &pattern(2, 100)).unwrap();
        store.flush().unwrap();
        a.append(&pattern(3, 50_000)).unwrap();
        store.flush().unwrap();
        let mut expected = pattern(1, 300_000);
        expected[150_000..150_100].copy_from_slice(&pattern(2, 100));
        expected.extend(pattern(3, 50_000));
        assert!(content(&store)["a"] == expected);
        drop((store, a));
        assert!(content(&options.open(bench.platform()).unwrap())["a"] == expected);
    }
}

pub fn a_journal_of_any_size_works<B: Bench>() {
    let bench = B::fresh();
    // More than any file holds: an error or a store, but no panic.
    if let Ok(store) = Options::new().journal_size(u64::MAX).open(bench.platform()) {
        region(&store, "a", b"x");
        store.flush().unwrap();
    }
}
