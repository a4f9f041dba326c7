//! Which pages of the file are free: the holes between what is in use, and everything past the end.
//!
//! A **hole** is a maximal run of free pages with a page in use behind it. The **end** is the page
//! past the last one in use (or 0): everything from there on is free, up to [`MAX_PAGES`], and is no
//! hole. Holes that touch merge, and a hole that comes to touch the end is merged into it: the end
//! comes down.
//!
//! It is *not* where it is decided when a page becomes free (F7, I6): whoever calls
//! [`Space::release`] has seen to that. It does no I/O, and nothing of it is written to the file; it
//! is built from the table of regions when a store is opened.
//!
//! # Structure and cost
//!
//! Holes are kept by start in chunks of up to 128 that also know their largest hole, and by size in
//! a balanced tree. Finding, taking and releasing costs O(log n) of n holes, plus a chunk. Looking
//! for the *lowest* hole that fits goes over the chunks, and into those whose largest hole is large
//! enough: n/32 steps over plain memory at most, 5 to 10 µs for a million holes.
//!
//! A size alone does not say whether a hole fits once it is aligned. So both searches try a bounded
//! number of holes that may fit, and then look only for those that surely do.

use crate::run::{MAX_PAGES, Run};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// How many holes a chunk holds at most.
const CHUNK: usize = 128;

/// How many holes that are large enough, but do not fit once aligned, a search tries before it asks
/// for holes that fit however they are aligned.
const TRIES: usize = 64;

/// The free pages of a file. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Space {
    holes: Holes,
    /// The pages and the start of every hole.
    by_size: BTreeSet<(u64, u64)>,
    free_pages: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    start: u64,
    pages: u64,
    /// Whether any page of it may take room on the machine: it was let go of since the hole was
    /// last punched, or nobody knows.
    needs_punch: bool,
}

impl Space {
    /// A file of which every page below `end` is in use.
    pub(crate) fn new(end: u64) -> Self {
        Self { end, ..Self::default() }
    }

    /// A file of which the pages below `first` and those of `used` are in use: runs in ascending
    /// order that do not overlap. Whether the holes were punched is unknown, so they need it.
    /// Costs O(n log n) for the order by size, and O(n) for everything else.
    ///
    /// # Errors
    ///
    /// The first run that starts before the end of the one before it (or before `first`), or that
    /// ends past [`MAX_PAGES`].
    pub(crate) fn from_used(first: u64, used: impl IntoIterator<Item = Run>) -> Result<Self, Run> {
        let mut end = first;
        let mut holes = Vec::new();
        for run in used.into_iter().filter(|run| run.pages > 0) {
            let behind =
                checked_end(run.start, run.pages).filter(|_| run.start >= end).ok_or(run)?;
            if run.start > end {
                holes.push(Hole { start: end, pages: run.start - end, needs_punch: true });
            }
            end = behind;
        }
        let mut by_size: Vec<_> = holes.iter().map(|hole| (hole.pages, hole.start)).collect();
        by_size.sort_unstable();
        Ok(Self {
            free_pages: holes.iter().map(|hole| hole.pages).sum(),
            holes: Holes::of(&holes),
            by_size: by_size.into_iter().collect(),
            end,
        })
    }

    /// Takes `pages` pages that start at a multiple of `align`: from the smallest hole that fits,
    /// the lowest of its size; or, if none does, at the end, where pages skipped to align become
    /// a hole. `None` for no pages, or if the file would pass [`MAX_PAGES`].
    ///
    /// Of the holes large enough only by luck of their alignment, a bounded number is tried.
    pub(crate) fn allocate(&mut self, pages: u64, align: u64) -> Option<Run> {
        if pages == 0 {
            return None;
        }
        if let Some((hole, at)) = self.best_fit(pages, align.max(1)) {
            return Some(self.carve(hole, at, pages));
        }
        let run = Run { start: self.end.checked_next_multiple_of(align.max(1))?, pages };
        self.take_past_end(run).then_some(run)
    }

    /// Takes `pages` pages that start at a multiple of `align` from the lowest hole in which they
    /// fit and end at or below page `below`. `None` if there is none: it never takes pages past the
    /// end. For moving things down.
    ///
    /// Of the holes large enough only by luck of their alignment, a bounded number is tried.
    pub(crate) fn allocate_lowest(&mut self, pages: u64, align: u64, below: u64) -> Option<Run> {
        if pages == 0 {
            return None;
        }
        let (hole, at) = self.lowest_fit(pages, align.max(1))?;
        // Holes further up only give places further up.
        (at + pages <= below).then(|| self.carve(hole, at, pages))
    }

    /// Takes exactly the pages from `at` on, if all of them are free, and answers whether it did.
    /// Free pages between the end and `at` become a hole.
    pub(crate) fn extend(&mut self, at: u64, pages: u64) -> bool {
        if pages == 0 {
            return false;
        }
        if at >= self.end {
            return self.take_past_end(Run { start: at, pages });
        }
        match self.holes.around(at).0 {
            Some(hole) if hole.room_at(at) >= pages => {
                self.carve(hole, at, pages);
                true
            }
            _ => false,
        }
    }

    /// How many free pages there are from page `at` on without a gap: 0 if it is in use, and all up
    /// to [`MAX_PAGES`] if it lies at or past the end.
    pub(crate) fn room_at(&self, at: u64) -> u64 {
        if at >= self.end {
            return MAX_PAGES.saturating_sub(at);
        }
        self.holes.around(at).0.map_or(0, |hole| hole.room_at(at))
    }

    /// Makes the pages of `run` free. The hole that they become part of needs to be punched.
    ///
    /// Answers `false`, and changes nothing, if any of them is free already, or there are none: a
    /// broken invariant of the caller's.
    #[must_use]
    pub(crate) fn release(&mut self, run: Run) -> bool {
        let Some(mut end) = checked_end(run.start, run.pages) else {
            return false;
        };
        if run.pages == 0 || end > self.end {
            return false;
        }
        let (before, after) = self.holes.around(run.start);
        if before.is_some_and(|hole| hole.end() > run.start)
            || after.is_some_and(|hole| hole.start < end)
        {
            return false;
        }
        let mut start = run.start;
        if let Some(hole) = before.filter(|hole| hole.end() == start) {
            self.take(hole);
            start = hole.start;
        }
        if let Some(hole) = after.filter(|hole| hole.start == end) {
            self.take(hole);
            end = hole.end();
        }
        if end == self.end {
            self.end = start;
        } else {
            self.put(start, end, true);
        }
        true
    }

    /// The page past the last one in use.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// How many pages the holes have, all together.
    pub(crate) fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// How many holes there are.
    pub(crate) fn hole_count(&self) -> usize {
        self.by_size.len()
    }

    /// How many pages the largest hole has, 0 if there is none.
    pub(crate) fn largest_hole(&self) -> u64 {
        self.by_size.last().map_or(0, |&(pages, _)| pages)
    }

    /// All holes, in ascending order.
    pub(crate) fn holes(&self) -> impl Iterator<Item = Run> + '_ {
        self.holes.chunks.iter().flat_map(|chunk| &chunk.holes).map(|hole| hole.run())
    }

    /// The holes of at least `min_pages` pages that need to be punched, in ascending order. Costs
    /// O(holes), without looking at those of chunks in which there is none.
    pub(crate) fn unpunched(&self, min_pages: u64) -> impl Iterator<Item = Run> + '_ {
        self.holes
            .chunks
            .iter()
            .filter(move |chunk| chunk.largest_unpunched >= min_pages)
            .flat_map(|chunk| &chunk.holes)
            .filter(move |hole| hole.needs_punch && hole.pages >= min_pages)
            .map(|hole| hole.run())
    }

    /// Notes that the pages of `run` were punched, and answers whether that makes a hole one that
    /// does not need it any more: if `run` is a hole, all of it, or lies past the end. A run that
    /// is in part in use, or in a larger hole by now, changes nothing; the hole will be punched as
    /// a whole another time.
    ///
    /// The caller has seen to it that nobody used the pages between the punch and this call.
    pub(crate) fn mark_punched(&mut self, run: Run) -> bool {
        if run.start >= self.end {
            return true;
        }
        match self.holes.around(run.start).0 {
            Some(hole) if hole.run() == run => {
                self.holes.remove(hole.start);
                self.holes.insert(Hole { needs_punch: false, ..hole });
                true
            }
            _ => false,
        }
    }

    fn best_fit(&self, pages: u64, align: u64) -> Option<(Hole, u64)> {
        let by_luck = self.by_size.range((pages, 0)..).take(TRIES);
        let surely = self.by_size.range((pages.saturating_add(align - 1), 0)..).take(1);
        let (start, at) = by_luck.chain(surely).find_map(|&(free, start)| {
            let hole = Hole { start, pages: free, needs_punch: false };
            Some((start, hole.fit(pages, align)?))
        })?;
        Some((self.holes.around(start).0?, at))
    }

    fn lowest_fit(&self, pages: u64, align: u64) -> Option<(Hole, u64)> {
        let mut tries = TRIES;
        let mut enough = pages;
        for chunk in &self.holes.chunks {
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

    /// Takes a run that starts at or past the end, if it lies below the limit.
    fn take_past_end(&mut self, run: Run) -> bool {
        let Some(end) = checked_end(run.start, run.pages) else {
            return false;
        };
        // What is skipped may have been in use when the end was higher, so it may need a punch.
        self.put(self.end, run.start, true);
        self.end = end;
        true
    }

    /// Takes a run out of a hole that holds it; what is left on either side is as punched as it was.
    fn carve(&mut self, hole: Hole, at: u64, pages: u64) -> Run {
        self.take(hole);
        self.put(hole.start, at, hole.needs_punch);
        self.put(at + pages, hole.end(), hole.needs_punch);
        Run { start: at, pages }
    }

    /// Notes a hole, which touches no other and not the end; or nothing, if it has no pages.
    fn put(&mut self, start: u64, end: u64, needs_punch: bool) {
        if start < end {
            let hole = Hole { start, pages: end - start, needs_punch };
            self.holes.insert(hole);
            self.by_size.insert((hole.pages, hole.start));
            self.free_pages += hole.pages;
        }
    }

    /// Forgets a hole.
    fn take(&mut self, hole: Hole) {
        self.holes.remove(hole.start);
        self.by_size.remove(&(hole.pages, hole.start));
        self.free_pages -= hole.pages;
    }
}

/// The end of a run, unless it passes the limit.
fn checked_end(start: u64, pages: u64) -> Option<u64> {
    start.checked_add(pages).filter(|&end| end <= MAX_PAGES)
}

impl Hole {
    fn end(self) -> u64 {
        self.start + self.pages
    }

    fn run(self) -> Run {
        Run { start: self.start, pages: self.pages }
    }

    /// How many pages of it lie at or behind `at`, if `at` lies in it.
    fn room_at(self, at: u64) -> u64 {
        if at < self.start { 0 } else { self.end().saturating_sub(at) }
    }

    /// The lowest multiple of `align` from which `pages` pages lie in it.
    fn fit(self, pages: u64, align: u64) -> Option<u64> {
        let at = self.start.checked_next_multiple_of(align)?;
        (at.checked_add(pages)? <= self.end()).then_some(at)
    }
}

/// The holes by start: a sorted list in pieces.
#[derive(Debug, Default)]
struct Holes {
    chunks: Vec<Chunk>,
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

impl Holes {
    /// Leaves each chunk some room, so that the next changes split none.
    fn of(holes: &[Hole]) -> Self {
        Self { chunks: holes.chunks(CHUNK * 3 / 4).map(|part| Chunk::new(part.to_vec())).collect() }
    }

    /// The place of the chunk in which a hole that starts at `at` is, or would be.
    fn chunk_of(&self, at: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= at).saturating_sub(1)
    }

    /// The last hole that starts at or below `at`, and the first that starts above.
    fn around(&self, at: u64) -> (Option<Hole>, Option<Hole>) {
        let place = self.chunk_of(at);
        let Some(chunk) = self.chunks.get(place) else {
            return (None, None);
        };
        let split = chunk.holes.partition_point(|hole| hole.start <= at);
        let (below, above) = chunk.holes.split_at(split);
        let next = || self.chunks.get(place + 1)?.holes.first();
        (below.last().copied(), above.first().or_else(next).copied())
    }

    fn insert(&mut self, hole: Hole) {
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
    fn remove(&mut self, start: u64) {
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
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// How many pages the model has. What it knows of those past them is that they are free.
    const PAGES: usize = 8000;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Page {
        Used,
        /// Free, and perhaps in need of a punch.
        Free(bool),
    }

    /// The same as [`Space`], page by page, with everything found by looking. Its searches know no
    /// bound, so tests keep to holes so few, or aligns so small, that [`TRIES`] suffice.
    struct Model {
        pages: Vec<Page>,
    }

    impl Model {
        fn new(end: usize) -> Self {
            let mut pages = vec![Page::Free(true); PAGES];
            pages[..end].fill(Page::Used);
            Self { pages }
        }

        fn end(&self) -> u64 {
            self.pages.iter().rposition(|&p| p == Page::Used).map_or(0, |at| at as u64 + 1)
        }

        fn holes(&self) -> Vec<Hole> {
            let mut holes: Vec<Hole> = Vec::new();
            for (start, &page) in (0..self.end()).zip(&self.pages) {
                let Page::Free(needs_punch) = page else { continue };
                match holes.last_mut() {
                    Some(hole) if hole.end() == start => {
                        hole.pages += 1;
                        hole.needs_punch |= needs_punch;
                    }
                    _ => holes.push(Hole { start, pages: 1, needs_punch }),
                }
            }
            holes
        }

        fn set(&mut self, run: Run, page: Page) {
            // A hole is punched as a whole, so a hole that is cut passes its need on to each part.
            for hole in self.holes().into_iter().filter(|hole| hole.needs_punch) {
                self.pages[hole.start as usize..hole.end() as usize].fill(Page::Free(true));
            }
            self.pages[run.start as usize..(run.start + run.pages) as usize].fill(page);
            let end = self.end() as usize;
            self.pages[end..].fill(Page::Free(true));
        }

        fn is_free(&self, run: Run) -> bool {
            (run.start..run.start + run.pages).all(|at| self.pages[at as usize] != Page::Used)
        }

        fn lowest(&self, pages: u64, align: u64, below: u64) -> Option<Run> {
            let end = self.end().min(below);
            (0..end)
                .step_by(align as usize)
                .map(|start| Run { start, pages })
                .find(|&run| run.start + run.pages <= end && self.is_free(run))
        }

        fn best(&self, pages: u64, align: u64) -> Run {
            let fits = |hole: &Hole| {
                (hole.start..hole.end()).find(|at| at % align == 0 && at + pages <= hole.end())
            };
            let holes = self.holes();
            let best =
                holes.iter().filter(|h| fits(h).is_some()).min_by_key(|h| (h.pages, h.start));
            let start = match best.and_then(fits) {
                Some(at) => at,
                None => self.end().next_multiple_of(align),
            };
            Run { start, pages }
        }
    }

    fn check(space: &Space, model: &Model) {
        let holes = model.holes();
        let chunks = &space.holes.chunks;
        assert!(chunks.iter().flat_map(|chunk| &chunk.holes).eq(&holes));
        assert!(space.holes().eq(holes.iter().map(|hole| hole.run())));
        assert_eq!(space.end(), model.end());
        assert_eq!(space.hole_count(), holes.len());
        assert_eq!(space.free_pages(), holes.iter().map(|hole| hole.pages).sum::<u64>());
        assert_eq!(space.largest_hole(), holes.iter().map(|hole| hole.pages).max().unwrap_or(0));
        let mut by_size: Vec<_> = holes.iter().map(|hole| (hole.pages, hole.start)).collect();
        by_size.sort_unstable();
        assert!(space.by_size.iter().eq(&by_size));
        for min in [0, 1, 2, 9] {
            let unpunched = holes.iter().filter(|hole| hole.needs_punch && hole.pages >= min);
            assert!(space.unpunched(min).eq(unpunched.map(|hole| hole.run())));
        }
        check_chunks(chunks);
    }

    fn check_chunks(chunks: &[Chunk]) {
        for chunk in chunks {
            assert!((1..=CHUNK).contains(&chunk.holes.len()));
            assert_eq!(chunk.first, chunk.holes[0].start);
            assert_eq!(Some(chunk.largest), chunk.holes.iter().map(|hole| hole.pages).max());
        }
        assert!(chunks.windows(2).all(|w| w[0].holes.len() + w[1].holes.len() > CHUNK / 2));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Allocate(u64, u64),
        AllocateLowest(u64, u64, u64),
        Extend(u64, u64),
        Release(u64, u64),
        Punch(usize),
        MarkPunched(u64, u64),
    }

    fn op(pages: u64, aligns: &'static [u64]) -> impl Strategy<Value = Op> {
        let align = move || prop::sample::select(aligns);
        prop_oneof![
            4 => (0..20_u64, align()).prop_map(|(n, a)| Op::Allocate(n, a)),
            2 => (0..20_u64, align(), 0..pages).prop_map(|(n, a, b)| Op::AllocateLowest(n, a, b)),
            2 => (0..pages, 0..9_u64).prop_map(|(at, n)| Op::Extend(at, n)),
            8 => (0..pages, 0..9_u64).prop_map(|(at, n)| Op::Release(at, n)),
            2 => any::<usize>().prop_map(Op::Punch),
            1 => (0..pages, 1..9_u64).prop_map(|(at, n)| Op::MarkPunched(at, n)),
        ]
    }

    fn run_ops(space: &mut Space, model: &mut Model, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Allocate(0, align) => assert_eq!(space.allocate(0, align), None),
                Op::Allocate(pages, align) => {
                    let run = model.best(pages, align);
                    assert_eq!(space.allocate(pages, align), Some(run));
                    model.set(run, Page::Used);
                }
                Op::AllocateLowest(pages, align, below) => {
                    let run = model.lowest(pages, align, below).filter(|_| pages > 0);
                    assert_eq!(space.allocate_lowest(pages, align, below), run);
                    run.iter().for_each(|&run| model.set(run, Page::Used));
                }
                Op::Extend(start, pages) => {
                    let run = Run { start, pages };
                    let room = (start..model.end())
                        .take_while(|&start| model.is_free(Run { start, pages: 1 }));
                    let room = room.count() as u64;
                    let open = start + room >= model.end();
                    assert_eq!(space.room_at(start), if open { MAX_PAGES - start } else { room });
                    let fits = pages > 0 && model.is_free(run);
                    assert_eq!(space.extend(start, pages), fits);
                    if fits {
                        model.set(run, Page::Used);
                    }
                }
                Op::Release(start, pages) => {
                    let run = Run { start, pages };
                    let mut each = (start..start + pages).map(|start| Run { start, pages: 1 });
                    let used = pages > 0 && each.all(|page| !model.is_free(page));
                    assert_eq!(space.release(run), used);
                    if used {
                        model.set(run, Page::Free(true));
                    }
                }
                Op::Punch(nth) => {
                    let holes = model.holes();
                    if let Some(hole) = holes.get(nth % holes.len().max(1)) {
                        assert!(space.mark_punched(hole.run()));
                        model.set(hole.run(), Page::Free(false));
                    }
                }
                Op::MarkPunched(start, pages) => {
                    let run = Run { start, pages };
                    let hole = model.holes().iter().any(|hole| hole.run() == run);
                    assert_eq!(space.mark_punched(run), hole || start >= model.end());
                    if hole {
                        model.set(run, Page::Free(false));
                    }
                }
            }
            check(space, model);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn behaves_like_a_bitmap(end in 0..100_usize, ops in prop::collection::vec(op(120, &[1, 3, 4, 16]), 1..80)) {
            run_ops(&mut Space::new(end as u64), &mut Model::new(end), ops);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 1 } else { 24 },
            failure_persistence: None,
            ..Default::default()
        })]

        /// So many holes that chunks split and join.
        #[test]
        fn behaves_like_a_bitmap_with_many_holes(
            stay in prop::collection::vec(prop::bool::weighted(0.6), 2400),
            ops in prop::collection::vec(op(2400, &[1, 2, 3]), 200),
        ) {
            let mut model = Model::new(2400);
            let mut used = Vec::new();
            for (start, _) in stay.iter().enumerate().filter(|&(at, stays)| at < 2 || *stays) {
                used.push(Run { start: start as u64, pages: 1 });
            }
            for (page, _) in model.pages.iter_mut().zip(&stay).skip(2).filter(|(_, stays)| !**stays) {
                *page = Page::Free(true);
            }
            let mut space = Space::from_used(2, used.into_iter().skip(2)).expect("in order");
            check(&space, &model);
            run_ops(&mut space, &mut model, ops);
        }
    }

    #[test]
    fn chunks_split_and_join() {
        let mut space = Space::new(4001);
        let mut model = Model { pages: vec![Page::Used; 4001] };
        let holes = (0..2000).map(|nth| nth * 7 % 2000 * 2);
        for start in holes.clone() {
            assert!(space.release(Run { start, pages: 1 }));
            model.set(Run { start, pages: 1 }, Page::Free(true));
        }
        check(&space, &model);
        assert!(space.holes.chunks.len() >= 2000 / CHUNK);
        for start in holes.filter(|start| start % 200 != 0) {
            assert!(space.extend(start, 1));
            check_chunks(&space.holes.chunks);
            model.set(Run { start, pages: 1 }, Page::Used);
        }
        check(&space, &model);
        assert_eq!((space.hole_count(), space.holes.chunks.len()), (20, 1));
    }

    #[test]
    fn the_end_comes_down_to_the_last_page_in_use() {
        let mut space = Space::new(10);
        assert!(space.release(Run { start: 4, pages: 2 }));
        assert!(space.release(Run { start: 7, pages: 3 }));
        assert_eq!((space.end(), space.hole_count()), (7, 1));
        assert!(space.release(Run { start: 6, pages: 1 }));
        assert_eq!((space.end(), space.hole_count(), space.free_pages()), (4, 0, 0));
    }

    #[test]
    fn what_is_free_is_not_released_again() {
        let mut space = Space::new(10);
        assert!(space.release(Run { start: 4, pages: 2 }));
        for (start, pages) in
            [(4, 2), (3, 2), (5, 2), (3, 4), (9, 2), (10, 1), (4, 0), (1, u64::MAX)]
        {
            assert!(!space.release(Run { start, pages }), "{start}+{pages}");
        }
        assert_eq!((space.end(), space.free_pages()), (10, 2));
    }

    #[test]
    fn the_file_has_a_limit() {
        let mut space = Space::new(MAX_PAGES - 20);
        assert_eq!(space.allocate(21, 1), None);
        assert_eq!(space.allocate(5, 16), Some(Run { start: MAX_PAGES - 16, pages: 5 }));
        assert_eq!(space.room_at(MAX_PAGES - 11), 11);
        assert!(!space.extend(MAX_PAGES - 11, 12));
        assert!(space.extend(MAX_PAGES - 11, 11));
        assert_eq!((space.allocate(1, 64), space.end()), (None, MAX_PAGES));
        assert_eq!(space.allocate(4, 1), Some(Run { start: MAX_PAGES - 20, pages: 4 }));
        for (pages, align) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            assert_eq!(space.allocate(pages, align), None);
            assert_eq!(space.allocate_lowest(pages, align, u64::MAX), None);
        }
        assert_eq!((space.room_at(u64::MAX), space.extend(u64::MAX, 2)), (0, false));
    }

    #[test]
    fn runs_out_of_order_are_named() {
        let run = |start, pages| Run { start, pages };
        let build = |runs: &[Run]| Space::from_used(2, runs.iter().copied()).map(|s| s.end());
        assert_eq!(build(&[]), Ok(2));
        assert_eq!(build(&[run(2, 2), run(4, 1), run(9, 0), run(6, 1)]), Ok(7));
        assert_eq!(build(&[run(1, 2)]), Err(run(1, 2)));
        assert_eq!(build(&[run(4, 2), run(5, 1)]), Err(run(5, 1)));
        assert_eq!(build(&[run(MAX_PAGES - 1, 1)]), Ok(MAX_PAGES));
        assert_eq!(build(&[run(MAX_PAGES - 1, 2)]), Err(run(MAX_PAGES - 1, 2)));
        assert_eq!(build(&[run(u64::MAX, 2)]), Err(run(u64::MAX, 2)));
    }

    #[test]
    fn beyond_the_tries_only_sure_fits_are_found() {
        // Holes of 16 pages that are not aligned, then one that is, then one of 40.
        let build = |misfits: u64| {
            let used = (1..misfits).map(|nth| Run { start: nth * 32 + 17, pages: 16 });
            let lucky = misfits * 32 + 32;
            let first = [Run { start: 0, pages: 33 }];
            let rest = [
                Run { start: misfits * 32 + 17, pages: 15 },
                Run { start: lucky + 16, pages: 1 },
                Run { start: lucky + 57, pages: 1 },
            ];
            let space = Space::from_used(0, first.into_iter().chain(used).chain(rest));
            (space.expect("in order"), lucky)
        };
        let tries = TRIES as u64;
        for (misfits, skipped) in [(1, 0), (tries - 1, 0), (tries, 32), (tries + 1, 32)] {
            let (mut space, lucky) = build(misfits);
            let found = Some(Run { start: lucky + skipped, pages: 16 });
            assert_eq!(space.allocate(16, 16), found, "{misfits}");
            let (mut space, lucky) = build(misfits);
            assert_eq!(space.allocate_lowest(16, 16, lucky), None);
            assert_eq!(space.allocate_lowest(16, 16, u64::MAX), found, "{misfits}");
        }
    }
}
