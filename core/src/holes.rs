//! The holes of a file by their place: a sorted list in pieces, for finding what lies around a
//! page, and the lowest hole that fits.
//!
//! Holes are kept in ascending order in chunks of up to 128, each of which also knows its largest
//! hole. Putting one in, taking one out and finding those around a page costs O(log n) of n holes,
//! plus a chunk. Looking for the *lowest* hole that fits goes over the chunks, and into those whose
//! largest hole is large enough: n/32 steps over plain memory at most, 5 to 10 µs for a million
//! holes.
//!
//! It is *not* where holes merge, come to be or go: that is the business of `space`, which also
//! keeps them by size. Here a hole is only a place, its length, and whether it was punched.

use crate::run::Run;
use alloc::vec::Vec;

/// How many holes a chunk holds at most.
const CHUNK: usize = 128;

/// How many holes that are large enough, but do not fit once aligned, a search tries before it asks
/// for holes that fit however they are aligned.
pub(crate) const TRIES: usize = 64;

/// Holes in ascending order. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Holes {
    chunks: Vec<Chunk>,
}

/// A maximal run of free pages with a page in use behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The first page.
    pub start: u64,
    /// How many pages, never 0.
    pub pages: u64,
    /// Whether any page of it may take room on the machine: it was let go of since the hole was
    /// last punched, or nobody knows.
    pub needs_punch: bool,
}

/// Up to [`CHUNK`] holes in ascending order, and what a search asks about all of them. Never empty.
#[derive(Debug)]
struct Chunk {
    first: u64,
    largest: u64,
    /// 0 if there is no hole in it that needs to be punched.
    largest_unpunched: u64,
    holes: Vec<Hole>,
}

impl Chunk {
    fn new(holes: Vec<Hole>) -> Self {
        let mut chunk = Self { first: 0, largest: 0, largest_unpunched: 0, holes };
        chunk.summarize();
        chunk
    }

    /// To be called after every change of the holes.
    fn summarize(&mut self) {
        self.first = self.holes.first().map_or(0, |hole| hole.start);
        (self.largest, self.largest_unpunched) = (0, 0);
        for hole in &self.holes {
            self.largest = self.largest.max(hole.pages);
            let unpunched = if hole.needs_punch { hole.pages } else { 0 };
            self.largest_unpunched = self.largest_unpunched.max(unpunched);
        }
    }
}

impl Hole {
    /// The page past its last.
    pub(crate) fn end(self) -> u64 {
        self.start + self.pages
    }

    /// Its pages.
    pub(crate) fn run(self) -> Run {
        Run { start: self.start, pages: self.pages }
    }

    /// How many pages of it lie at or behind `at`, if `at` lies in it.
    pub(crate) fn room_at(self, at: u64) -> u64 {
        if at < self.start { 0 } else { self.end().saturating_sub(at) }
    }

    /// The lowest multiple of `align` from which `pages` pages lie in it.
    pub(crate) fn fit(self, pages: u64, align: u64) -> Option<u64> {
        let at = self.start.checked_next_multiple_of(align)?;
        (at.checked_add(pages)? <= self.end()).then_some(at)
    }
}

impl Holes {
    /// These holes, in ascending order. Leaves each chunk some room, so that the next changes split
    /// none. O(n).
    pub(crate) fn of(holes: &[Hole]) -> Self {
        Self { chunks: holes.chunks(CHUNK * 3 / 4).map(|part| Chunk::new(part.to_vec())).collect() }
    }

    /// All holes, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Hole> + '_ {
        self.chunks.iter().flat_map(|chunk| &chunk.holes).copied()
    }

    /// The holes of at least `min_pages` pages that need to be punched, in ascending order. Costs
    /// O(holes), without looking at those of chunks in which there is none.
    pub(crate) fn unpunched(&self, min_pages: u64) -> impl Iterator<Item = Hole> + '_ {
        self.chunks
            .iter()
            .filter(move |chunk| chunk.largest_unpunched >= min_pages)
            .flat_map(|chunk| &chunk.holes)
            .filter(move |hole| hole.needs_punch && hole.pages >= min_pages)
            .copied()
    }

    /// The lowest hole in which `pages` pages from a multiple of `align` on fit, and where in it.
    /// Of those that are large enough only by luck of their alignment it tries [`TRIES`].
    pub(crate) fn lowest_fit(&self, pages: u64, align: u64) -> Option<(Hole, u64)> {
        let mut tries = TRIES;
        let mut enough = pages;
        for chunk in &self.chunks {
            if chunk.largest < enough {
                continue;
            }
            for hole in &chunk.holes {
                if hole.pages < enough {
                    continue;
                }
                if let Some(at) = hole.fit(pages, align) {
                    return Some((*hole, at));
                }
                tries = tries.saturating_sub(1);
                if tries == 0 {
                    enough = pages.saturating_add(align - 1);
                }
            }
        }
        None
    }

    /// The last hole that starts at or below `at`, and the first that starts above.
    pub(crate) fn around(&self, at: u64) -> (Option<Hole>, Option<Hole>) {
        let place = self.chunk_of(at);
        let Some(chunk) = self.chunks.get(place) else {
            return (None, None);
        };
        let split = chunk.holes.partition_point(|hole| hole.start <= at);
        let (below, above) = chunk.holes.split_at(split);
        let next = || self.chunks.get(place + 1)?.holes.first();
        (below.last().copied(), above.first().or_else(next).copied())
    }

    /// Puts in a hole that overlaps none of the others.
    pub(crate) fn insert(&mut self, hole: Hole) {
        let place = self.chunk_of(hole.start);
        let Some(chunk) = self.chunks.get_mut(place) else {
            self.chunks.push(Chunk::new(Vec::from([hole])));
            return;
        };
        let at = chunk.holes.partition_point(|other| other.start < hole.start);
        chunk.holes.insert(at, hole);
        let upper = if chunk.holes.len() > CHUNK {
            Some(Chunk::new(chunk.holes.split_off(CHUNK / 2)))
        } else {
            None
        };
        chunk.summarize();
        if let Some(upper) = upper {
            self.chunks.insert(place + 1, upper);
        }
    }

    /// Takes the hole that starts at `start` out, if there is one.
    pub(crate) fn remove(&mut self, start: u64) {
        let place = self.chunk_of(start);
        let Some(chunk) = self.chunks.get_mut(place) else {
            return;
        };
        let Ok(at) = chunk.holes.binary_search_by_key(&start, |hole| hole.start) else {
            return;
        };
        chunk.holes.remove(at);
        chunk.summarize();
        if chunk.holes.is_empty() {
            self.chunks.remove(place);
        }
        self.join(place);
        self.join(place.saturating_sub(1));
    }

    /// The place of the chunk in which a hole that starts at `at` is, or would be.
    fn chunk_of(&self, at: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= at).saturating_sub(1)
    }

    /// Makes one chunk of two neighbours that got small, so that there are never many more than
    /// needed.
    fn join(&mut self, place: usize) {
        if let Some([lower, upper]) = self.chunks.get_mut(place..).and_then(|c| c.first_chunk_mut())
        {
            if lower.holes.len() + upper.holes.len() <= CHUNK / 2 {
                lower.holes.append(&mut upper.holes);
                lower.summarize();
                self.chunks.remove(place + 1);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
pub(crate) mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    /// Every chunk knows what its holes are, and there are not many more chunks than needed.
    pub(crate) fn check_chunks(holes: &Holes) {
        for chunk in &holes.chunks {
            assert!((1..=CHUNK).contains(&chunk.holes.len()));
            assert_eq!(chunk.first, chunk.holes[0].start);
            assert_eq!(Some(chunk.largest), chunk.holes.iter().map(|hole| hole.pages).max());
            let unpunched = chunk.holes.iter().filter(|hole| hole.needs_punch);
            assert_eq!(chunk.largest_unpunched, unpunched.map(|h| h.pages).max().unwrap_or(0));
        }
        let two_make_more_than_half = |w: &[Chunk]| w[0].holes.len() + w[1].holes.len() > CHUNK / 2;
        assert!(holes.chunks.windows(2).all(two_make_more_than_half));
    }

    /// Hole number `nth`, with one page in use behind it, or more.
    fn hole(nth: u64) -> Hole {
        Hole { start: nth * 8, pages: nth % 7 + 1, needs_punch: nth % 3 == 0 }
    }

    #[test]
    fn chunks_split_and_join() {
        let mut holes = Holes::default();
        let order = (0..2000).map(|nth| nth * 7 % 2000);
        for nth in order.clone() {
            holes.insert(hole(nth));
            check_chunks(&holes);
        }
        assert!(holes.iter().eq((0..2000).map(hole)));
        assert!(holes.chunks.len() >= 2000 / CHUNK);
        for nth in order.filter(|nth| nth % 100 != 0) {
            holes.remove(nth * 8);
            check_chunks(&holes);
        }
        assert!(holes.iter().eq((0..20).map(|nth| hole(nth * 100))));
        assert_eq!(holes.chunks.len(), 1);
        (0..20).for_each(|nth| holes.remove(nth * 800));
        assert!(holes.chunks.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 1 } else { 64 },
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn behaves_like_an_ordered_map(
            start in prop::collection::btree_set(0..1000_u64, 0..900),
            changes in prop::collection::vec((any::<bool>(), 0..1000_u64), 0..400),
            probes in prop::collection::vec(0..8100_u64, 8),
        ) {
            let mut model: BTreeMap<u64, Hole> = start.iter().map(|&n| (n * 8, hole(n))).collect();
            let mut holes = Holes::of(&model.values().copied().collect::<Vec<_>>());
            check_chunks(&holes);
            for (add, nth) in changes {
                if !add {
                    holes.remove(nth * 8);
                    model.remove(&(nth * 8));
                } else if model.insert(nth * 8, hole(nth)).is_none() {
                    holes.insert(hole(nth));
                }
                check_chunks(&holes);
            }
            prop_assert!(holes.iter().eq(model.values().copied()));
            for at in probes {
                let below = model.range(..=at).next_back().map(|(_, hole)| *hole);
                let above = model.range(at + 1..).next().map(|(_, hole)| *hole);
                prop_assert_eq!(holes.around(at), (below, above));
            }
            for pages in 0..9 {
                let large = model.values().copied().filter(|hole| hole.pages >= pages);
                let lowest = large.clone().next().map(|hole| (hole, hole.start));
                prop_assert_eq!(holes.lowest_fit(pages, 1), lowest);
                prop_assert!(holes.unpunched(pages).eq(large.filter(|hole| hole.needs_punch)));
            }
        }
    }
}
