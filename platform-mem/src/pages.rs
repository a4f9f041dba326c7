//! Sparse bytes in pages of 4 KiB behind reference counts: a persistent radix tree.
//!
//! Cloning is one increment, whatever the size; a write to a clone copies the pages that it changes
//! and the nodes above them (sixteen pointers each). This is what makes a snapshot of a platform,
//! and a crash image of the simulated disk, cost only what differs.
//!
//! A page that is not there reads as zeros. The tree knows no length.

use alloc::sync::Arc;

/// Bytes in a page of every platform in this crate.
pub const PAGE_SIZE: u32 = 4096;

pub(crate) const PAGE: usize = PAGE_SIZE as usize;
const FAN: usize = 16;
const FAN_BITS: u32 = 4;

/// The last byte offset that a platform of this crate may have, as on most file systems. It keeps
/// the sums of offsets and lengths from overflowing, and the tree at most thirteen nodes high.
pub(crate) const MAX_LEN: u64 = i64::MAX as u64;

/// The bytes of one page.
#[derive(Clone)]
pub(crate) struct Page(pub(crate) [u8; PAGE]);

impl Page {
    pub(crate) const ZERO: Self = Self([0; PAGE]);
}

#[derive(Clone)]
enum Node {
    Branch([Option<Arc<Node>>; FAN]),
    Leaf([Option<Arc<Page>>; FAN]),
}

impl Node {
    /// A node without children: a leaf at level 0, a branch above.
    fn empty(level: u32) -> Self {
        if level == 0 {
            Self::Leaf([const { None }; FAN])
        } else {
            Self::Branch([const { None }; FAN])
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Branch(children) => children.iter().all(Option::is_none),
            Self::Leaf(pages) => pages.iter().all(Option::is_none),
        }
    }
}

/// The tree.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    root: Option<Arc<Node>>,
    /// Levels of nodes: the tree spans `16^height` pages.
    height: u32,
    allocated: u64,
}

fn child(index: u64, level: u32) -> usize {
    ((index >> (level * FAN_BITS)) as usize) % FAN
}

/// The pieces of `[offset, offset + len)` that lie in one page each: page, start inside it, range
/// of the buffer.
pub(crate) fn pieces(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, usize, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % u64::from(PAGE_SIZE)) as usize;
        let part = (PAGE - start).min(len - done);
        let range = done..done + part;
        done += part;
        Some((at / u64::from(PAGE_SIZE), start, range))
    })
}

impl Pages {
    /// How many pages are there.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    fn spans(&self, index: u64) -> bool {
        index.checked_shr(self.height * FAN_BITS).unwrap_or(0) == 0
    }

    pub(crate) fn page(&self, index: u64) -> Option<&Arc<Page>> {
        if !self.spans(index) {
            return None;
        }
        let mut level = self.height;
        let mut node = self.root.as_ref()?;
        loop {
            level = level.checked_sub(1)?;
            match &**node {
                Node::Branch(children) => node = children[child(index, level)].as_ref()?,
                Node::Leaf(pages) => return pages[child(index, level)].as_ref(),
            }
        }
    }

    /// The place of a page, made along with the nodes above it.
    fn slot(&mut self, index: u64) -> &mut Option<Arc<Page>> {
        while self.height == 0 || !self.spans(index) {
            if let Some(old) = self.root.take() {
                let mut children = [const { None }; FAN];
                children[0] = Some(old);
                self.root = Some(Arc::new(Node::Branch(children)));
            }
            self.height += 1;
        }
        let mut level = self.height;
        let mut at = &mut self.root;
        loop {
            level -= 1;
            let node = at.get_or_insert_with(|| Arc::new(Node::empty(level)));
            match Arc::make_mut(node) {
                Node::Branch(children) => at = &mut children[child(index, level)],
                Node::Leaf(pages) => return &mut pages[child(index, level)],
            }
        }
    }

    /// Puts a page in its place, or takes it away.
    pub(crate) fn set(&mut self, index: u64, page: Option<Arc<Page>>) {
        let Some(page) = page else {
            self.remove(index, index + 1);
            return;
        };
        if self.slot(index).replace(page).is_none() {
            self.allocated += 1;
        }
    }

    /// A page to write to: a copy of its own if somebody else holds it, zeros if it was not there.
    pub(crate) fn page_mut(&mut self, index: u64) -> &mut Page {
        if self.page(index).is_none() {
            self.allocated += 1;
        }
        Arc::make_mut(self.slot(index).get_or_insert_with(|| Arc::new(Page::ZERO)))
    }

    /// Takes the pages `[from, to)` away and answers how many there were.
    pub(crate) fn remove(&mut self, from: u64, to: u64) -> u64 {
        let removed = match self.height {
            0 => 0,
            height => remove(&mut self.root, height - 1, 0, from, to),
        };
        self.allocated -= removed;
        if self.root.is_none() {
            self.height = 0;
        }
        removed
    }

    /// Calls `each` with the pages `[from, to)` that are there, in order.
    pub(crate) fn visit(&self, from: u64, to: u64, each: &mut dyn FnMut(u64, &Arc<Page>)) {
        if let (Some(root), Some(level)) = (&self.root, self.height.checked_sub(1)) {
            visit(root, level, 0, from, to, each);
        }
    }

    /// How many of the pages `[from, to)` are not there.
    pub(crate) fn missing(&self, from: u64, to: u64) -> u64 {
        let mut there = 0;
        self.visit(from, to, &mut |_, _| there += 1);
        to.saturating_sub(from) - there
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        for (index, start, range) in pieces(offset, buf.len()) {
            let part = &mut buf[range];
            match self.page(index) {
                Some(page) => part.copy_from_slice(&page.0[start..start + part.len()]),
                None => part.fill(0),
            }
        }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (index, start, range) in pieces(offset, bytes.len()) {
            self.put(index, start, &bytes[range]);
        }
    }

    /// Writes inside one page.
    pub(crate) fn put(&mut self, index: u64, start: usize, bytes: &[u8]) {
        if let Ok(whole) = <[u8; PAGE]>::try_from(bytes) {
            // Nothing of the old page is needed: do not copy it first if it is shared.
            self.set(index, Some(Arc::new(Page(whole))));
        } else {
            self.page_mut(index).0[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Takes away all bytes from `len` on: they read as zeros afterwards.
    pub(crate) fn trim(&mut self, len: u64) {
        self.remove(len.div_ceil(u64::from(PAGE_SIZE)), u64::MAX);
        let start = (len % u64::from(PAGE_SIZE)) as usize;
        let last = len / u64::from(PAGE_SIZE);
        if let Some(page) = self.page(last) {
            // Looked at first, so that a page which ends in zeros anyway stays shared.
            if start != 0 && page.0[start..].iter().any(|&byte| byte != 0) {
                self.page_mut(last).0[start..].fill(0);
            }
        }
    }
}

/// The range of children that `[from, to)` touches in a node whose first page is `base`, and how
/// many pages a child spans.
fn touched(level: u32, base: u64, from: u64, to: u64) -> (core::ops::Range<usize>, u64) {
    let span = 1u64 << (level * FAN_BITS);
    let first = from.saturating_sub(base) / span;
    let last = to.saturating_sub(base).div_ceil(span).min(FAN as u64);
    (first.min(last) as usize..last as usize, span)
}

fn remove(at: &mut Option<Arc<Node>>, level: u32, base: u64, from: u64, to: u64) -> u64 {
    let Some(shared) = at else { return 0 };
    // Counted before anything is copied: nothing to remove must cost nothing.
    let mut there = 0;
    visit(shared, level, base, from, to, &mut |_, _| there += 1);
    if there == 0 {
        return 0;
    }
    let (range, span) = touched(level, base, from, to);
    let node = Arc::make_mut(shared);
    match node {
        Node::Branch(children) => {
            for i in range {
                let start = base + i as u64 * span;
                if from <= start && start + span <= to {
                    children[i] = None;
                } else {
                    remove(&mut children[i], level - 1, start, from, to);
                }
            }
        }
        Node::Leaf(pages) => pages[range].fill(None),
    }
    if node.is_empty() {
        *at = None;
    }
    there
}

fn visit(
    node: &Node,
    level: u32,
    base: u64,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(u64, &Arc<Page>),
) {
    let (range, span) = touched(level, base, from, to);
    match node {
        Node::Branch(children) => {
            for i in range {
                if let Some(below) = &children[i] {
                    visit(below, level - 1, base + i as u64 * span, from, to, each);
                }
            }
        }
        Node::Leaf(pages) => {
            for i in range {
                if let Some(page) = &pages[i] {
                    each(base + i as u64, page);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use crate::prng::Prng;

    fn content(pages: &Pages) -> Vec<(u64, u8)> {
        let mut all = Vec::new();
        pages.visit(0, u64::MAX, &mut |index, page| all.push((index, page.0[0])));
        all
    }

    #[test]
    fn behaves_like_a_map() {
        let mut prng = Prng::new(1);
        let mut pages = Pages::default();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for round in 0..4000 {
            // Few pages close together, some far away: every height of the tree.
            let index = prng.below(40) << (8 * prng.below(6));
            match prng.below(8) {
                0..=4 => {
                    let byte = prng.bits() as u8;
                    pages.page_mut(index).0[0] = byte;
                    model.insert(index, byte);
                }
                5 => {
                    pages.set(index, None);
                    model.remove(&index);
                }
                _ => {
                    let to = index + (prng.below(40) << (8 * prng.below(6)));
                    let there = model.range(index..to).count() as u64;
                    assert_eq!(pages.missing(index, to), to - index - there);
                    assert_eq!(pages.remove(index, to), there);
                    model.retain(|&i, _| i < index || i >= to);
                }
            }
            assert_eq!(pages.allocated(), model.len() as u64);
            let flat: Vec<_> = model.iter().map(|(&i, &b)| (i, b)).collect();
            assert_eq!(content(&pages), flat);
            assert_eq!(pages.page(index).map(|p| p.0[0]), model.get(&index).copied());
            if round % 500 == 0 {
                kept.push((pages.clone(), flat));
            }
        }
        for (snapshot, flat) in kept {
            assert_eq!(content(&snapshot), flat, "a clone must not change with the original");
        }
        pages.remove(0, u64::MAX);
        assert!(pages.root.is_none());
    }

    #[test]
    fn trim_leaves_zeros() {
        let mut pages = Pages::default();
        pages.write(4000, &[7; 200]);
        let before = pages.clone();
        pages.trim(4050);
        let mut buf = [1; 300];
        pages.read(4000, &mut buf);
        assert_eq!(buf[..50], [7; 50]);
        assert_eq!(buf[50..], [0; 250]);
        assert_eq!(pages.allocated(), 1);
        let same = pages.page(0).map(Arc::as_ptr);
        pages.trim(4050);
        assert_eq!(pages.page(0).map(Arc::as_ptr), same);
        before.read(4000, &mut buf);
        assert_eq!(buf[..200], [7; 200]);
    }

    #[test]
    fn a_page_far_away_costs_a_path() {
        let mut pages = Pages::default();
        pages.write(MAX_LEN - 10, &[9; 10]);
        assert_eq!(pages.allocated(), 1);
        assert!(pages.height <= 13);
        let mut buf = [0; 10];
        pages.read(MAX_LEN - 10, &mut buf);
        assert_eq!(buf, [9; 10]);
    }
}
