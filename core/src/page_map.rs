//! A persistent map from page numbers to values: the pages of a region that live in memory.
//!
//! It is a radix tree of fan-out 32 whose nodes are reference counted. A clone shares the whole
//! tree and costs one reference count, so a reader or a flush takes the pages of a region as they
//! are in O(1). A change copies only those nodes on the way to it that somebody else still shares;
//! a clone made earlier is never disturbed. A node holds only the slots that are taken, and the
//! tree is only as high as its largest key asks for: the pages of a region of 128 KiB fit one node,
//! those of 4 MiB two levels.
//!
//! It is *not* a concurrent map: whoever changes it has it alone (`&mut`), behind a lock of the
//! caller's. Nor does it know what a page holds. Keys are page numbers, below 2^48 in a store, but
//! every `u64` works.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// How many bits of the key one level takes.
const BITS: u32 = 5;
/// The largest index into a node.
const MASK: u64 = (1 << BITS) - 1;

/// A map from page numbers to `T` that is cheap to clone. See the [module](self).
pub(crate) struct PageMap<T> {
    /// `None` exactly when the map is empty.
    root: Option<Arc<Node<T>>>,
    /// How many levels of inner nodes lie above the leaves; 0 when the root is a leaf, or missing.
    height: u32,
    len: usize,
}

/// Either all of a level are leaves, or all are inner nodes. No node but one just made is empty.
#[derive(Clone)]
enum Node<T> {
    Leaf(Slots<T>),
    Inner(Slots<Arc<Node<T>>>),
}

/// Up to 32 values by index, without room for those that are not there.
#[derive(Clone)]
struct Slots<V> {
    /// Bit i: index i is taken. The value is at the number of bits set below it.
    taken: u32,
    values: Vec<V>,
}

impl<T> PageMap<T> {
    /// An empty map. Allocates nothing.
    pub(crate) const fn new() -> Self {
        Self { root: None, height: 0, len: 0 }
    }

    /// How many pages it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no page.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of page `key`.
    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        if !fits(key, self.height) {
            return None;
        }
        let mut node = self.root.as_deref()?;
        let mut height = self.height;
        loop {
            match node {
                Node::Leaf(slots) => return slots.get(index(key, 0)),
                Node::Inner(slots) => node = slots.get(index(key, height))?,
            }
            height = height.saturating_sub(1);
        }
    }

    /// The smallest key.
    pub(crate) fn first_key(&self) -> Option<u64> {
        self.first_at_or_after(0).map(|(key, _)| key)
    }

    /// The largest key.
    pub(crate) fn last_key(&self) -> Option<u64> {
        let mut node = self.root.as_deref()?;
        let mut key = 0;
        loop {
            match node {
                Node::Leaf(slots) => return Some(key << BITS | u64::from(slots.last()?.0)),
                Node::Inner(slots) => {
                    let (index, child) = slots.last()?;
                    key = key << BITS | u64::from(index);
                    node = child;
                }
            }
        }
    }

    /// The page at `key`, or else the nearest one behind it. O(height).
    pub(crate) fn first_at_or_after(&self, key: u64) -> Option<(u64, &T)> {
        self.range_from(key).next()
    }

    /// All pages, in ascending order.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.range_from(0)
    }

    /// All pages from `key` on, in ascending order. O(height) to begin with, and again every 32
    /// keys or so.
    pub(crate) fn range_from(&self, key: u64) -> Iter<'_, T> {
        Iter { map: self, leaf: None, next: Some(key) }
    }

    /// The first leaf that holds anything at or after `key`.
    fn leaf_at_or_after(&self, key: u64) -> Option<Cursor<'_, T>> {
        if !fits(key, self.height) {
            return None;
        }
        self.root.as_deref()?.leaf_at_or_after(key, 0, self.height)
    }
}

impl<T: Clone> PageMap<T> {
    /// The value of page `key`, to change it. Copies the shared nodes on the way, and clones the
    /// neighbours in a shared leaf, if the page is there; touches nothing if it is not.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.get(key)?;
        let mut node = Arc::make_mut(self.root.as_mut()?);
        let mut height = self.height;
        loop {
            match node {
                Node::Leaf(slots) => return slots.get_mut(index(key, 0)),
                Node::Inner(slots) => {
                    node = Arc::make_mut(slots.get_mut(index(key, height))?);
                }
            }
            height = height.saturating_sub(1);
        }
    }

    /// Gives page `key` a value, and answers the one it had.
    pub(crate) fn insert(&mut self, key: u64, value: T) -> Option<T> {
        if self.root.is_none() {
            self.height = 0;
        }
        while !fits(key, self.height) {
            if let Some(root) = self.root.take() {
                self.root = Some(Arc::new(Node::Inner(Slots::of(0, root))));
            }
            self.height += 1;
        }
        let old = match &mut self.root {
            Some(root) => Arc::make_mut(root).insert(key, self.height, value),
            None => {
                self.root = Some(Node::path(key, self.height, value));
                None
            }
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes page `key` out, and frees the nodes that become empty.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        // Nodes are copied only for a page that is there.
        self.get(key)?;
        let root = Arc::make_mut(self.root.as_mut()?);
        let old = root.remove(key, self.height);
        self.len -= usize::from(old.is_some());
        self.lower();
        old
    }

    /// Takes all pages from `key` on out, as a truncation does, and answers how many they were.
    /// Costs O(what goes).
    pub(crate) fn retain_below(&mut self, key: u64) -> usize {
        if self.last_key().is_none_or(|last| last < key) {
            return 0;
        }
        let gone = match &mut self.root {
            Some(root) if key > 0 => Arc::make_mut(root).retain_below(key, self.height),
            _ => self.len,
        };
        self.len -= gone;
        self.lower();
        gone
    }

    /// Drops a root that is empty, and levels that no key needs any more.
    fn lower(&mut self) {
        if self.len == 0 {
            self.root = None;
        }
        while let Some(Node::Inner(slots)) = self.root.as_deref() {
            match slots.get(0) {
                Some(child) if slots.taken == 1 => self.root = Some(Arc::clone(child)),
                _ => return,
            }
            self.height -= 1;
        }
        self.height = 0;
    }
}

impl<T> Node<T> {
    /// A node of the given height that holds just this.
    fn path(key: u64, height: u32, value: T) -> Arc<Self> {
        let mut node = Arc::new(Self::Leaf(Slots::of(index(key, 0), value)));
        for height in 1..=height {
            node = Arc::new(Self::Inner(Slots::of(index(key, height), node)));
        }
        node
    }

    /// `prefix` is the part of the keys above this node.
    fn leaf_at_or_after(&self, key: u64, prefix: u64, height: u32) -> Option<Cursor<'_, T>> {
        match self {
            Self::Leaf(slots) => {
                let left = slots.taken & at_or_above(index(key, 0));
                (left != 0).then_some(Cursor { slots, left, prefix })
            }
            Self::Inner(slots) => {
                let at = index(key, height);
                let below = height.saturating_sub(1);
                if let Some(child) = slots.get(at) {
                    let found = child.leaf_at_or_after(key, prefix << BITS | u64::from(at), below);
                    if found.is_some() {
                        return found;
                    }
                }
                // Nothing is left in the child that the key leads to: anything in a later one will do.
                let next = (slots.taken & at_or_above(at) & !(1 << at)).trailing_zeros();
                slots.get(next)?.leaf_at_or_after(0, prefix << BITS | u64::from(next), below)
            }
        }
    }

    /// How many values lie below this node.
    fn count(&self) -> usize {
        match self {
            Self::Leaf(slots) => slots.values.len(),
            Self::Inner(slots) => slots.values.iter().map(|child| child.count()).sum(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(slots) => slots.taken == 0,
            Self::Inner(slots) => slots.taken == 0,
        }
    }
}

impl<T: Clone> Node<T> {
    fn insert(&mut self, key: u64, height: u32, value: T) -> Option<T> {
        let at = index(key, height);
        match self {
            Self::Leaf(slots) => slots.insert(at, value),
            Self::Inner(slots) => {
                let below = height.saturating_sub(1);
                match slots.get_mut(at) {
                    Some(child) => Arc::make_mut(child).insert(key, below, value),
                    None => {
                        slots.insert(at, Self::path(key, below, value));
                        None
                    }
                }
            }
        }
    }

    fn remove(&mut self, key: u64, height: u32) -> Option<T> {
        let at = index(key, height);
        match self {
            Self::Leaf(slots) => slots.remove(at),
            Self::Inner(slots) => {
                let child = Arc::make_mut(slots.get_mut(at)?);
                let old = child.remove(key, height.saturating_sub(1));
                if child.is_empty() {
                    slots.remove(at);
                }
                old
            }
        }
    }

    /// Answers how many values went.
    fn retain_below(&mut self, key: u64, height: u32) -> usize {
        let at = index(key, height);
        match self {
            Self::Leaf(slots) => slots.cut(at).count(),
            Self::Inner(slots) => {
                let mut gone = slots.cut(at + 1).map(|child| child.count()).sum();
                if let Some(child) = slots.get_mut(at) {
                    let child = Arc::make_mut(child);
                    gone += child.retain_below(key, height.saturating_sub(1));
                    if child.is_empty() {
                        slots.remove(at);
                    }
                }
                gone
            }
        }
    }
}

impl<V> Slots<V> {
    fn of(at: u32, value: V) -> Self {
        Self { taken: 1 << at, values: Vec::from([value]) }
    }

    /// Where the value of index `at` is, or would be.
    fn place(&self, at: u32) -> usize {
        (self.taken & !at_or_above(at)).count_ones() as usize
    }

    /// An index of 32 and more is there to be asked for, and holds nothing.
    fn has(&self, at: u32) -> bool {
        self.taken.checked_shr(at).unwrap_or(0) & 1 == 1
    }

    fn get(&self, at: u32) -> Option<&V> {
        if self.has(at) { self.values.get(self.place(at)) } else { None }
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut V> {
        let place = self.place(at);
        if self.has(at) { self.values.get_mut(place) } else { None }
    }

    fn last(&self) -> Option<(u32, &V)> {
        Some((self.taken.checked_ilog2()?, self.values.last()?))
    }

    fn insert(&mut self, at: u32, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(at) {
            return Some(core::mem::replace(old, value));
        }
        self.values.insert(self.place(at), value);
        self.taken |= 1 << at;
        None
    }

    fn remove(&mut self, at: u32) -> Option<V> {
        if !self.has(at) {
            return None;
        }
        let value = self.values.remove(self.place(at));
        self.taken &= !(1 << at);
        Some(value)
    }

    /// Takes out what is at index `at` and above.
    fn cut(&mut self, at: u32) -> alloc::vec::Drain<'_, V> {
        let place = self.place(at);
        self.taken &= !at_or_above(at);
        self.values.drain(place..)
    }
}

/// The index of `key` in a node of the given height.
fn index(key: u64, height: u32) -> u32 {
    (key.checked_shr(height * BITS).unwrap_or(0) & MASK) as u32
}

/// Whether a tree of the given height has a place for `key`.
fn fits(key: u64, height: u32) -> bool {
    key.checked_shr((height + 1) * BITS).unwrap_or(0) == 0
}

/// The bits of the indexes from `at` on; none for an index past the last.
fn at_or_above(at: u32) -> u32 {
    u32::MAX.checked_shl(at).unwrap_or(0)
}

/// What is left to be seen of one leaf.
struct Cursor<'a, T> {
    slots: &'a Slots<T>,
    left: u32,
    prefix: u64,
}

/// Pages in ascending order, from [`PageMap::iter`] and [`PageMap::range_from`].
pub(crate) struct Iter<'a, T> {
    map: &'a PageMap<T>,
    leaf: Option<Cursor<'a, T>>,
    /// Where to look for the next leaf; `None` after the last key there can be.
    next: Option<u64>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let leaf = match &mut self.leaf {
            Some(leaf) if leaf.left != 0 => leaf,
            _ => {
                let leaf = self.map.leaf_at_or_after(self.next.take()?)?;
                self.next = (leaf.prefix << BITS | MASK).checked_add(1);
                self.leaf.insert(leaf)
            }
        };
        let at = leaf.left.trailing_zeros();
        leaf.left &= leaf.left - 1;
        Some((leaf.prefix << BITS | u64::from(at), leaf.slots.get(at)?))
    }
}

impl<T> Clone for PageMap<T> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), height: self.height, len: self.len }
    }
}

impl<T> Default for PageMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for PageMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    /// Keys that crowd a few nodes, and some that are far off.
    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0..70_u64,
            2 => 0..3_000_u64,
            1 => (0..48_u32, 0..4_u64).prop_map(|(shift, add)| (1 << shift) + add),
            1 => (0..4_u64).prop_map(|less| u64::MAX - less),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u32),
        Change(u64, u32),
        Remove(u64),
        RetainBelow(u64),
        Clone,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
            2 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Change(k, v)),
            4 => key().prop_map(Op::Remove),
            1 => key().prop_map(Op::RetainBelow),
            1 => Just(Op::Clone),
        ]
    }

    impl<T: Clone> FromIterator<(u64, T)> for PageMap<T> {
        fn from_iter<I: IntoIterator<Item = (u64, T)>>(pages: I) -> Self {
            let mut map = Self::new();
            for (key, value) in pages {
                map.insert(key, value);
            }
            map
        }
    }

    type Model = BTreeMap<u64, u32>;

    /// The tree has no empty node, no needless level, and its leaves all at the same height.
    fn check_shape<T>(node: &Node<T>, height: u32) {
        assert!(!node.is_empty());
        match node {
            Node::Leaf(slots) => {
                assert_eq!(height, 0);
                assert_eq!(slots.taken.count_ones() as usize, slots.values.len());
            }
            Node::Inner(slots) => {
                assert!(height > 0);
                assert_eq!(slots.taken.count_ones() as usize, slots.values.len());
                slots.values.iter().for_each(|child| check_shape(child, height - 1));
            }
        }
    }

    fn check(map: &PageMap<u32>, model: &Model) {
        assert!(map.iter().eq(model.iter().map(|(k, v)| (*k, v))));
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(map.first_key(), model.keys().next().copied());
        assert_eq!(map.last_key(), model.keys().next_back().copied());
        match &map.root {
            Some(root) => check_shape(root, map.height),
            None => assert_eq!(map.height, 0),
        }
        let last = map.last_key().unwrap_or(0);
        assert!(fits(last, map.height) && (map.height == 0 || !fits(last, map.height - 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn behaves_like_an_ordered_map(
            ops in prop::collection::vec(op(), 1..120),
            probes in prop::collection::vec(key(), 8),
        ) {
            let (mut map, mut model) = (PageMap::new(), Model::new());
            let mut clones = alloc::vec![(map.clone(), model.clone())];
            for op in ops {
                match op {
                    Op::Insert(k, v) => prop_assert_eq!(map.insert(k, v), model.insert(k, v)),
                    Op::Change(k, v) => {
                        let (ours, theirs) = (map.get_mut(k), model.get_mut(&k));
                        prop_assert_eq!(&ours, &theirs);
                        if let (Some(ours), Some(theirs)) = (ours, theirs) {
                            (*ours, *theirs) = (v, v);
                        }
                    }
                    Op::Remove(k) => prop_assert_eq!(map.remove(k), model.remove(&k)),
                    Op::RetainBelow(k) => {
                        prop_assert_eq!(map.retain_below(k), model.split_off(&k).len());
                    }
                    Op::Clone => clones.push((map.clone(), model.clone())),
                }
                check(&map, &model);
            }
            clones.push((map, model));
            for (map, model) in &clones {
                check(map, model);
                for &k in &probes {
                    prop_assert_eq!(map.get(k), model.get(&k));
                    prop_assert!(map.range_from(k).eq(model.range(k..).map(|(k, v)| (*k, v))));
                    prop_assert_eq!(
                        map.first_at_or_after(k),
                        model.range(k..).next().map(|(k, v)| (*k, v))
                    );
                }
            }
        }
    }

    #[test]
    fn a_miss_copies_nothing() {
        let mut map: PageMap<u32> = (0..100).map(|k| (k * 2, 0)).collect();
        let clone = map.clone();
        assert_eq!(map.get_mut(3), None);
        assert_eq!(map.remove(3), None);
        assert_eq!(map.retain_below(199), 0);
        let roots = (map.root.as_ref(), clone.root.as_ref());
        assert!(matches!(roots, (Some(a), Some(b)) if Arc::ptr_eq(a, b)));
    }

    #[test]
    fn a_change_copies_only_its_path() {
        let mut map: PageMap<u32> = (0..1024).map(|k| (k, 0)).collect();
        let clone = map.clone();
        map.insert(40, 1);
        let (Some(Node::Inner(ours)), Some(Node::Inner(theirs))) =
            (map.root.as_deref(), clone.root.as_deref())
        else {
            panic!("1,024 keys have two levels");
        };
        let shared: Vec<bool> =
            ours.values.iter().zip(&theirs.values).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert!(shared.iter().enumerate().all(|(at, &shared)| shared == (at != 1)));
        assert_eq!((map.get(40), clone.get(40)), (Some(&1), Some(&0)));
    }

    #[test]
    fn values_are_dropped_once() {
        let page = Arc::new(());
        let mut map: PageMap<Arc<()>> = (0..200).map(|k| (k * 7, Arc::clone(&page))).collect();
        let clone = map.clone();
        assert_eq!(Arc::strong_count(&page), 201);
        assert_eq!(map.retain_below(700), 100);
        drop(clone);
        assert_eq!(Arc::strong_count(&page), 101);
        drop(map);
        assert_eq!(Arc::strong_count(&page), 1);
    }
}
