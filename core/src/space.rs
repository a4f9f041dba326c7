//! Which pages of the file are free: the holes between what is in use, and everything past the end.
//!
//! A **hole** is a maximal run of free pages with a page in use behind it. The **end** is the page
//! past the last one in use (or 0): everything from there on is free, up to the limit of the file,
//! and is no hole. Holes that touch merge, and a hole that comes to touch the end is merged into
//! it: the end comes down.
//!
//! It is *not* where it is decided when a page becomes free (F7, I6): whoever calls
//! [`Space::release`] has seen to that. It does no I/O, and nothing of it is written to the file;
//! it is built from the table of regions when a store is opened.
//!
//! # Structure and cost
//!
//! Holes are kept by place in [`Holes`], and by size in a balanced tree. Finding, taking and
//! releasing costs O(log n) of n holes, and a bounded number of steps more.
//!
//! A size alone does not say whether a hole fits once it is aligned. So both searches try a bounded
//! number of holes that may fit, and then look only for those that surely do.

use crate::holes::{Hole, Holes, TRIES};
use crate::run::{MAX_PAGES, Run};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The free pages of a file. See the [module](self). The default has no room for any page.
#[derive(Debug, Default)]
pub(crate) struct Space {
    holes: Holes,
    /// The pages and the start of every hole.
    by_size: BTreeSet<(u64, u64)>,
    free_pages: u64,
    end: u64,
    /// The most pages that the file may have.
    limit: u64,
}

impl Space {
    /// A file of which every page below `end` is in use, and that may have [`MAX_PAGES`].
    pub(crate) fn new(end: u64) -> Self {
        Self { end, ..Self::default() }.with_limit(MAX_PAGES)
    }

    /// The same for a file that may have `limit` pages: [`max_pages`](crate::run::max_pages) of its
    /// page size. What is in use past the limit stays in use.
    #[must_use]
    pub(crate) fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
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
            let behind = run.start.checked_add(run.pages).filter(|&behind| behind <= MAX_PAGES);
            let behind = behind.filter(|_| run.start >= end).ok_or(run)?;
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
            ..Self::new(end)
        })
    }

    /// Takes `pages` pages that start at a multiple of `align`: from the smallest hole that fits,
    /// the lowest of its size; or, if none does, at the end, where pages skipped to align become
    /// a hole. `None` for no pages, or if the file would pass its limit.
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
        let (hole, at) = self.holes.lowest_fit(pages, align.max(1))?;
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
    /// to the limit if it lies at or past the end.
    pub(crate) fn room_at(&self, at: u64) -> u64 {
        if at >= self.end {
            return self.limit.saturating_sub(at);
        }
        self.holes.around(at).0.map_or(0, |hole| hole.room_at(at))
    }

    /// Makes the pages of `run` free. The hole that they become part of needs to be punched.
    ///
    /// Answers `false`, and changes nothing, if any of them is free already, or there are none: a
    /// broken invariant of the caller's.
    #[must_use]
    pub(crate) fn release(&mut self, run: Run) -> bool {
        let Some(mut end) = run.start.checked_add(run.pages) else {
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
        self.holes.iter().map(Hole::run)
    }

    /// The holes of at least `min_pages` pages that need to be punched, in ascending order. Costs
    /// O(holes), without looking at those of chunks in which there is none.
    pub(crate) fn unpunched(&self, min_pages: u64) -> impl Iterator<Item = Run> + '_ {
        self.holes.unpunched(min_pages).map(Hole::run)
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

    /// Takes a run that starts at or past the end, if it lies below the limit.
    fn take_past_end(&mut self, run: Run) -> bool {
        let Some(end) = run.start.checked_add(run.pages).filter(|&end| end <= self.limit) else {
            return false;
        };
        // What is skipped may have been in use when the end was higher, so it may need a punch.
        self.put(self.end, run.start, true);
        self.end = end;
        true
    }

    /// Takes a run out of a hole that holds it; what is left on either side is as punched as it
    /// was.
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

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;
