//! Names that change.

use allod_core::Error;

use crate::bench::*;
use crate::refused;

pub fn a_rename_keeps_bytes_place_id_and_handles<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "a", &pattern(1, 20_000));
    store.flush().unwrap();
    let before = store.regions().remove(0);
    let reader = a.reader().unwrap();
    a.rename("b").unwrap();
    assert_eq!(a.name().unwrap(), "b");
    assert!(store.region("a").is_none());
    assert_eq!(store.region("b").unwrap(), a);
    let after = store.regions().remove(0);
    assert_eq!((after.id, after.start, after.len), (before.id, before.start, before.len));
    a.append(b"more").unwrap();
    assert_eq!(after_death(&bench).keys().collect::<Vec<_>>(), ["a"], "not flushed yet");
    store.flush().unwrap();
    let left = after_death(&bench);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(left["b"].len(), 20_004);
    assert_eq!(&*reader.read_all().unwrap(), pattern(1, 20_000));
}

pub fn a_taken_name_is_refused<B: Bench>() {
    let store = store(&B::fresh());
    let a = region(&store, "a", b"A");
    region(&store, "b", b"B");
    store.flush().unwrap();
    refused!(a.rename("b"), Error::RegionExists { name } if &*name == "b");
    refused!(store.rename_region("b", "a"), Error::RegionExists { .. });
    a.rename("a").unwrap();
    let now = content(&store);
    assert_eq!((&now["a"][..], &now["b"][..]), (&b"A"[..], &b"B"[..]));
    assert_eq!(store.flush().unwrap().syncs, 0, "nothing changed");
}

pub fn names_move_in_a_circle_within_one_flush<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    for name in ["a", "b", "c"] {
        region(&store, name, name.as_bytes());
    }
    store.flush().unwrap();
    store.rename_region("a", "t").unwrap();
    store.rename_region("b", "a").unwrap();
    store.rename_region("c", "b").unwrap();
    store.rename_region("t", "c").unwrap();
    store.flush().unwrap();
    let left = after_death(&bench);
    let bytes: Vec<_> = left.values().map(|bytes| bytes.as_slice()).collect();
    assert_eq!(bytes, [b"b", b"c", b"a"]);
}

pub fn a_name_passes_from_a_removed_region_to_another<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    region(&store, "a", b"old");
    let b = region(&store, "b", b"new");
    store.flush().unwrap();
    store.remove_region("a").unwrap();
    b.rename("a").unwrap();
    region(&store, "b", b"newest");
    store.flush().unwrap();
    for left in [after_death(&bench), content(&store)] {
        assert_eq!(left.len(), 2);
        assert_eq!((&left["a"][..], &left["b"][..]), (&b"new"[..], &b"newest"[..]));
    }
}

pub fn a_hundred_renames_with_flushes_and_checkpoints<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let a = region(&store, "n", &pattern(1, 6000));
    let other = region(&store, "other", b"other");
    for i in 0..100 {
        let name = format!("{}{i}", "long name ".repeat(i % 50));
        a.rename(&name).unwrap();
        other.rename(&format!("o{i}")).unwrap();
        match i % 10 {
            3 => _ = store.flush().unwrap(),
            7 => _ = store.checkpoint().unwrap(),
            _ => continue,
        }
        let left = after_death(&bench);
        assert_eq!(left.len(), 2);
        assert_eq!(left[&name], pattern(1, 6000));
        assert_eq!(left[&format!("o{i}")], b"other");
    }
}

pub fn a_region_is_renamed_after_its_name_was_removed_and_made_again<B: Bench>() {
    let bench = B::fresh();
    let store = store(&bench);
    let first = region(&store, "a", b"1");
    first.remove().unwrap();
    let second = region(&store, "a", b"2");
    second.rename("b").unwrap();
    refused!(first.rename("c"), Error::RegionRemoved { .. });
    store.flush().unwrap();
    let left = after_death(&bench);
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [("b".to_string(), b"2".to_vec())]);
}
