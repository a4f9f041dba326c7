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
use core::slice;

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
        Self { root: None, height: 0 }
    }

    /// Whether it holds no page.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of page `key`. O(height).
    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        match self.root.as_deref()? {
            // The map of a small region, or of one with few changes near its start, is one leaf.
            Node::Leaf(slots) => slots.get(u32::try_from(key).ok()?),
            Node::Inner(slots) if fits(key, self.height) => slots.find(key, self.height),
            Node::Inner(_) => None,
        }
    }

    /// All pages, in ascending order.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.range_from(0)
    }

    /// All pages from `key` on, in ascending order. O(height) to begin with, and again every 32
    /// keys or so.
    pub(crate) fn range_from(&self, key: u64) -> Iter<'_, T> {
        let leaf = Cursor { left: 0, values: [].iter(), prefix: 0 };
        Iter { map: self, leaf, next: Some(key) }
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
        match &mut self.root {
            Some(root) => Arc::make_mut(root).insert(key, self.height, value),
            None => {
                self.root = Some(Node::path(key, self.height, value));
                None
            }
        }
    }

    /// Takes page `key` out, and frees the nodes that become empty.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        // Nodes are copied only for a page that is there.
        self.get(key)?;
        let old = Arc::make_mut(self.root.as_mut()?).remove(key, self.height);
        self.lower();
        old
    }

    /// Drops a root that is empty, and levels that no key needs any more.
    fn lower(&mut self) {
        if self.root.as_deref().is_some_and(Node::is_empty) {
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
                let at = index(key, 0);
                let left = slots.taken & at_or_above(at);
                let values = slots.values.get(slots.place(at)..)?.iter();
                (left != 0).then_some(Cursor { left, values, prefix })
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
                // Nothing is left in the child that the key leads to: any key of a later one will do.
                let next = (slots.taken & at_or_above(at) & !(1 << at)).trailing_zeros();
                slots.get(next)?.leaf_at_or_after(0, prefix << BITS | u64::from(next), below)
            }
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
}

impl<V> Slots<V> {
    fn of(at: u32, value: V) -> Self {
        Self { taken: 1 << at, values: Vec::from([value]) }
    }

    /// Where the value of index `at` is, or would be.
    #[inline]
    fn place(&self, at: u32) -> usize {
        (self.taken & !at_or_above(at)).count_ones() as usize
    }

    /// An index of 32 and more is there to be asked for, and holds nothing.
    #[inline]
    fn has(&self, at: u32) -> bool {
        self.taken.checked_shr(at).unwrap_or(0) & 1 == 1
    }

    #[inline]
    fn get(&self, at: u32) -> Option<&V> {
        if self.has(at) { self.values.get(self.place(at)) } else { None }
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut V> {
        let place = self.place(at);
        if self.has(at) { self.values.get_mut(place) } else { None }
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
}

impl<T> Slots<Arc<Node<T>>> {
    /// The value of page `key`, below an inner node of the given height.
    fn find(&self, key: u64, mut height: u32) -> Option<&T> {
        let mut slots = self;
        loop {
            match &**slots.get(index(key, height))? {
                Node::Leaf(slots) => return slots.get(index(key, 0)),
                Node::Inner(inner) => slots = inner,
            }
            height = height.saturating_sub(1);
        }
    }
}

/// The index of `key` in a node of the given height.
#[inline]
fn index(key: u64, height: u32) -> u32 {
    (key.checked_shr(height * BITS).unwrap_or(0) & MASK) as u32
}

/// Whether a tree of the given height has a place for `key`.
#[inline]
fn fits(key: u64, height: u32) -> bool {
    key.checked_shr((height + 1) * BITS).unwrap_or(0) == 0
}

/// The bits of the indexes from `at` on; none for an index past the last.
#[inline]
fn at_or_above(at: u32) -> u32 {
    u32::MAX.checked_shl(at).unwrap_or(0)
}

/// What is left to be seen of one leaf.
struct Cursor<'a, T> {
    /// The bits of the indexes whose values come next.
    left: u32,
    values: slice::Iter<'a, T>,
    prefix: u64,
}

/// Pages in ascending order, from [`PageMap::iter`] and [`PageMap::range_from`].
pub(crate) struct Iter<'a, T> {
    map: &'a PageMap<T>,
    leaf: Cursor<'a, T>,
    /// Where to look for the next leaf; `None` after the last key there can be.
    next: Option<u64>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.leaf.left == 0 {
            self.leaf = self.map.leaf_at_or_after(self.next.take()?)?;
            self.next = (self.leaf.prefix << BITS | MASK).checked_add(1);
        }
        let Cursor { left, values, prefix } = &mut self.leaf;
        let at = left.trailing_zeros();
        *left &= left.wrapping_sub(1);
        Some((*prefix << BITS | u64::from(at), values.next()?))
    }
}

impl<T> Clone for PageMap<T> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), height: self.height }
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
        Clone,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
            2 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Change(k, v)),
            4 => key().prop_map(Op::Remove),
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
        assert_eq!(map.is_empty(), model.is_empty());
        match &map.root {
            Some(root) => check_shape(root, map.height),
            None => assert_eq!(map.height, 0),
        }
        let last = model.keys().next_back().copied().unwrap_or(0);
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
                }
            }
        }
    }

    #[test]
    fn emptied_it_is_as_new() {
        for keys in [&[0][..], &[31], &[32], &[5, 9], &[0, 40, 1 << 30], &[u64::MAX, 1]] {
            let mut map: PageMap<u64> = keys.iter().map(|&k| (k, k)).collect();
            for &k in keys {
                assert!(!map.is_empty());
                assert_eq!(map.remove(k), Some(k));
            }
            assert!(map.is_empty() && map.height == 0, "{keys:?}");
            assert_eq!((map.insert(3, 4), map.get(3), map.iter().count()), (None, Some(&4), 1));
        }
    }

    #[test]
    fn keys_past_its_height_are_not_found() {
        for mut map in [PageMap::from_iter([(3, 0)]), PageMap::from_iter([(3, 0), (35, 0)])] {
            for key in (5..64).map(|shift| (1 << shift) + 3).filter(|&key| key != 35) {
                assert_eq!(map.get(key), None);
                assert_eq!((map.get_mut(key).is_none(), map.remove(key)), (true, None));
                assert_eq!(map.range_from(key).next(), None);
            }
        }
    }

    #[test]
    fn a_miss_copies_nothing() {
        let mut map: PageMap<u32> = (0..100).map(|k| (k * 2, 0)).collect();
        let clone = map.clone();
        assert_eq!(map.get_mut(3), None);
        assert_eq!(map.remove(3), None);
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
        assert!((100..200).all(|k| map.remove(k * 7).is_some()));
        drop(clone);
        assert_eq!(Arc::strong_count(&page), 101);
        drop(map);
        assert_eq!(Arc::strong_count(&page), 1);
    }
}
