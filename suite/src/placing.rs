//! Where regions lie: growing, moving, holes, removal.

use allod_core::{Error, Options, Platform, RegionInfo, Store};

use crate::bench::*;
use crate::refused;

fn info<P: Platform>(store: &Store<P>, name: &str) -> RegionInfo {
    store.regions().into_iter().find(|region| region.name == name).expect("a region")
}

/// A region of so many bytes that lies in a place of exactly so many.
fn placed<P: Platform>(store: &Store<P>, name: &str, seed: u64, len: usize) -> RegionInfo {
    let region = store.create_region(name).unwrap();
    region.reserve(len as u64).unwrap();
    region.append(&pattern(seed, len)).unwrap();
    store.flush().unwrap();
    info(store, name)
}

pub fn the_last_region_grows_where_it_is<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    placed(&store, "a", 1, 8192);
    let before = placed(&store, "b", 2, 8192);
    let end = before.start + before.capacity;
    let last = store.regions().iter().all(|other| other.start + other.capacity <= end);
    assert!(last, "b is behind a");
    store.region("b").unwrap().append(&pattern(3, 100_000)).unwrap();
    store.flush().unwrap();
    assert_eq!(info(&store, "b").start, before.start);
    let mut expected = pattern(2, 8192);
    expected.extend(pattern(3, 100_000));
    assert!(after_death(&bench)["b"] == expected);
}

pub fn a_region_that_is_in_the_way_stays_and_the_other_moves<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    placed(&store, "a", 1, 8192);
    placed(&store, "b", 2, 8192);
    let b = info(&store, "b");
    let a = store.region("a").unwrap();
    let mut expected = pattern(1, 8192);
    for i in 0..6 {
        let bytes = pattern(i, 30_000 << i);
        a.append(&bytes).unwrap();
        expected.extend(bytes);
        store.flush().unwrap();
        assert_eq!(info(&store, "b"), b, "the others stay where they are");
        assert!(content(&store)["a"] == expected);
        let left = after_death(&bench);
        assert!(left["a"] == expected && left["b"] == pattern(2, 8192));
    }
}

pub fn a_region_grows_into_the_hole_behind_it<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = placed(&store, "a", 1, 8192);
    placed(&store, "hole", 2, 32_768);
    placed(&store, "c", 3, 8192);
    assert_eq!(info(&store, "hole").start, a.start + a.capacity, "they are neighbours");
    store.remove_region("hole").unwrap();
    store.flush().unwrap();
    store.checkpoint().unwrap();
    let len = bench.bytes().len();
    store.region("a").unwrap().append(&pattern(4, 20_000)).unwrap();
    store.flush().unwrap();
    assert_eq!(info(&store, "a").start, a.start, "in place");
    assert_eq!(bench.bytes().len(), len);
}

pub fn a_new_region_takes_the_smallest_hole_that_fits<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let sizes = [49_152, 12_288, 28_672];
    let mut holes = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        holes.push(placed(&store, &format!("hole {i}"), i as u64, size));
        placed(&store, &format!("between {i}"), 9, 4096);
    }
    for i in 0..sizes.len() {
        store.remove_region(&format!("hole {i}")).unwrap();
    }
    store.flush().unwrap();
    store.checkpoint().unwrap();
    // A checkpoint takes the lowest room that fits, which may be one of the holes.
    let used = store.regions();
    let fits = placed(&store, "fits", 5, 12_288);
    assert!(used.iter().all(|other| other.start != fits.start));
    assert!(
        holes.iter().any(|hole| fits.start >= hole.start
            && fits.start + fits.capacity <= hole.start + hole.capacity)
            || fits.start < holes[0].start,
        "{fits:?} is in none of {holes:?}",
    );
    assert_eq!(after_death(&bench)["fits"], pattern(5, 12_288));
}

pub fn a_hole_is_filled_by_a_region_of_its_size<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    placed(&store, "a", 1, 8192);
    let hole = placed(&store, "b", 2, 40_960);
    placed(&store, "c", 3, 8192);
    store.remove_region("b").unwrap();
    store.flush().unwrap();
    store.flush().unwrap();
    let before = bench.bytes().len();
    let filled = placed(&store, "d", 4, 40_960);
    assert_eq!((filled.start, filled.capacity), (hole.start, hole.capacity));
    assert_eq!(bench.bytes().len(), before);
    let left = after_death(&bench);
    assert!(left["d"] == pattern(4, 40_960) && left["a"] == pattern(1, 8192));
}

pub fn three_neighbours_removed_make_one_hole<B: Bench>() {
    for order in [[1, 2, 3], [2, 1, 3], [3, 1, 2], [1, 3, 2]] {
        let bench = B::fresh();
        // A journal so large that no other generation comes in between.
        let store = Options::new().open(bench.platform()).unwrap();
        let infos: Vec<_> = (0..5).map(|i| placed(&store, &format!("{i}"), i, 16_384)).collect();
        for i in order {
            store.remove_region(&format!("{i}")).unwrap();
            store.flush().unwrap();
        }
        // Pages with images in the journal wait for this.
        store.checkpoint().unwrap();
        let before = bench.bytes().len();
        let filled = placed(&store, "big", 7, 3 * 16_384);
        assert_eq!(filled.start, infos[1].start, "{order:?}");
        assert_eq!(bench.bytes().len(), before);
    }
}

pub fn removed_space_is_not_used_before_a_flush<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = placed(&store, "a", 1, 40_960);
    placed(&store, "b", 2, 4096);
    store.remove_region("a").unwrap();
    let c = store.create_region("c").unwrap();
    c.reserve(40_960).unwrap();
    c.append(&pattern(3, 40_960)).unwrap();
    assert_ne!(info(&store, "c").start, a.start, "a crash still needs it");
    let left = after_death(&bench);
    assert!(left["a"] == pattern(1, 40_960));
    assert!(!left.contains_key("c"));
}

pub fn the_file_does_not_grow_for_ever<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let mut lens = Vec::new();
    for round in 0..60 {
        let name = format!("r{}", round % 4);
        if store.contains(&name) {
            store.remove_region(&name).unwrap();
        }
        region(&store, &name, &pattern(round, 100_000));
        store.flush().unwrap();
        lens.push(bench.bytes().len());
    }
    assert!(lens[59] <= lens[20], "{lens:?}");
}

pub fn a_removed_region_is_gone_by_name_and_by_handle<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", b"abc");
    let same = a.clone();
    region(&store, "b", b"stays");
    store.flush().unwrap();
    for removed_and_flushed in [false, true] {
        if !removed_and_flushed {
            a.remove().unwrap();
        } else {
            store.flush().unwrap();
            // Somebody else may have the slot now.
            region(&store, "new", b"new");
        }
        assert!(store.region("a").is_none());
        let id = same.id();
        refused!(same.name(), Error::RegionRemoved { id: i } if i == id);
        refused!(same.len(), Error::RegionRemoved { .. });
        refused!(same.is_empty(), Error::RegionRemoved { .. });
        refused!(same.capacity(), Error::RegionRemoved { .. });
        refused!(same.reader(), Error::RegionRemoved { .. });
        refused!(same.read(0, 0), Error::RegionRemoved { .. });
        refused!(same.read_all(), Error::RegionRemoved { .. });
        refused!(same.append(b""), Error::RegionRemoved { .. });
        refused!(same.append(b"x"), Error::RegionRemoved { .. });
        refused!(same.append(&pattern(1, 2 << 20)), Error::RegionRemoved { .. });
        refused!(same.write_at(0, b"x"), Error::RegionRemoved { .. });
        refused!(same.truncate(0), Error::RegionRemoved { .. });
        refused!(same.truncate_write(0, b"x"), Error::RegionRemoved { .. });
        refused!(same.replace(b"x"), Error::RegionRemoved { .. });
        refused!(same.reserve(10), Error::RegionRemoved { .. });
        refused!(same.rename("c"), Error::RegionRemoved { .. });
        refused!(same.rename("b"), Error::RegionRemoved { .. });
        refused!(same.remove(), Error::RegionRemoved { .. });
        refused!(same.appender(), Error::RegionRemoved { .. });
        refused!(store.remove_region("a"), Error::NoRegion { name } if &*name == "a");
        refused!(store.rename_region("a", "c"), Error::NoRegion { .. });
    }
    same.flush().unwrap();
    let left = after_death(&bench);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["b", "new"]);
    assert_eq!(left["new"], b"new");
}

pub fn created_and_removed_between_two_flushes_leaves_no_trace<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    placed(&store, "a", 1, 4096);
    let len = bench.bytes().len();
    for i in 0..20 {
        let b = region(&store, "b", &pattern(i, 200_000));
        b.reserve(1_000_000).unwrap();
        b.remove().unwrap();
    }
    store.flush().unwrap();
    assert_eq!(after_death(&bench).keys().collect::<Vec<_>>(), ["a"]);
    assert!(bench.bytes().len() < len + 4_000_000);
}

pub fn retain_keeps_what_is_wanted<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    for i in 0..50 {
        region(&store, &format!("{i}"), &pattern(i, 100));
    }
    store.flush().unwrap();
    assert_eq!(store.retain_regions(|name| name.ends_with('7')).unwrap(), 45);
    assert_eq!(store.retain_regions(|_| true).unwrap(), 0);
    store.flush().unwrap();
    assert_eq!(after_death(&bench).keys().collect::<Vec<_>>(), ["17", "27", "37", "47", "7"]);
    assert_eq!(store.retain_regions(|_| false).unwrap(), 5);
    store.flush().unwrap();
    assert!(after_death(&bench).is_empty());
    assert!(store.is_empty());
}

pub fn removal_with_handles_alive_keeps_places_apart<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let mut handles = Vec::new();
    for round in 0..30u64 {
        let a = region(&store, &format!("{round}"), &pattern(round, 30_000));
        if round % 2 == 1 {
            store.remove_region(&format!("{}", round - 1)).unwrap();
        }
        if round % 3 == 0 {
            store.flush().unwrap();
        }
        handles.push(a);
    }
    store.flush().unwrap();
    let left = after_death(&bench);
    assert!(left == content(&store));
    assert_eq!(left.len(), 15);
    for (name, bytes) in left {
        assert!(bytes == pattern(name.parse().unwrap(), 30_000));
    }
}

pub fn a_fragmentation_script_with_two_holes_of_which_one_is_filled<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let infos: Vec<_> = (0..5).map(|i| placed(&store, &format!("{i}"), i, 20_480)).collect();
    store.remove_region("1").unwrap();
    store.remove_region("3").unwrap();
    store.flush().unwrap();
    let filled = placed(&store, "new", 9, 20_480);
    assert!(filled.start == infos[1].start || filled.start == infos[3].start, "{filled:?}");
    let left = after_death(&bench);
    for i in [0, 2, 4] {
        assert!(left[&format!("{i}")] == pattern(i, 20_480));
    }
    assert!(left["new"] == pattern(9, 20_480));
}

pub fn a_life_cycle_with_remove_refill_grow_and_move<B: Bench>() {
    let bench = B::fresh();
    let mut live = store(&bench);
    let mut expected = Content::new();
    for round in 0..25u64 {
        let name = format!("r{}", round * 7 % 5);
        match (live.region(&name), round % 4) {
            (Some(a), 0) => {
                a.remove().unwrap();
                expected.remove(&name);
            }
            (Some(a), 1) => {
                a.truncate(a.len().unwrap() / 2).unwrap();
                let bytes = expected.get_mut(&name).unwrap();
                bytes.truncate(bytes.len() / 2);
            }
            (found, _) => {
                let a = found.unwrap_or_else(|| live.create_region(&name).unwrap());
                let bytes = pattern(round, (round * 9001 % 150_000) as usize);
                a.append(&bytes).unwrap();
                expected.entry(name).or_default().extend(bytes);
            }
        }
        live.flush().unwrap();
        assert!(content(&live) == expected, "round {round}");
        if round % 5 == 4 {
            drop(live);
            live = reopen(&bench);
            assert!(content(&live) == expected, "reopened in round {round}");
        }
    }
}
