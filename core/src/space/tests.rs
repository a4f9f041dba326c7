//! Tests of the free pages, against a model that keeps every page.

use super::*;
use crate::holes::tests::check_chunks;
use crate::run::max_pages;
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
        let best = holes.iter().filter(|h| fits(h).is_some()).min_by_key(|h| (h.pages, h.start));
        let start = match best.and_then(fits) {
            Some(at) => at,
            None => self.end().next_multiple_of(align),
        };
        Run { start, pages }
    }
}

fn check(space: &Space, model: &Model) {
    let holes = model.holes();
    assert!(space.holes.iter().eq(holes.iter().copied()));
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
    check_chunks(&space.holes);
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
    fn behaves_like_a_bitmap(
        end in 0..100_usize,
        ops in prop::collection::vec(op(120, &[1, 3, 4, 16]), 1..80),
    ) {
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
    for (start, pages) in [(4, 2), (3, 2), (5, 2), (3, 4), (9, 2), (10, 1), (4, 0), (1, u64::MAX)] {
        assert!(!space.release(Run { start, pages }), "{start}+{pages}");
    }
    assert_eq!((space.end(), space.free_pages()), (10, 2));
}

#[test]
fn the_file_has_a_limit() {
    let smaller = max_pages(65_536);
    let small = Space::from_used(0, [Run { start: 0, pages: smaller - 20 }]).expect("in order");
    for (mut space, limit) in [
        (Space::new(MAX_PAGES - 20), MAX_PAGES),
        (Space::new(smaller - 20).with_limit(smaller), smaller),
        (small.with_limit(smaller), smaller),
    ] {
        assert_eq!(space.allocate(21, 1), None);
        assert_eq!(space.allocate(5, 16), Some(Run { start: limit - 16, pages: 5 }));
        assert_eq!(space.room_at(limit - 11), 11);
        assert!(!space.extend(limit - 11, 12));
        assert!(space.extend(limit - 11, 11));
        assert_eq!((space.allocate(1, 64), space.end()), (None, limit));
        assert_eq!(space.allocate(4, 1), Some(Run { start: limit - 20, pages: 4 }));
        for (pages, align) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            assert_eq!(space.allocate(pages, align), None);
            assert_eq!(space.allocate_lowest(pages, align, u64::MAX), None);
        }
        assert_eq!((space.room_at(u64::MAX), space.extend(u64::MAX, 2)), (0, false));
    }
}

#[test]
fn what_lies_past_the_limit_stays_in_use_until_it_is_released() {
    let mut space = Space::new(20).with_limit(10);
    assert_eq!((space.allocate(1, 1), space.room_at(20), space.extend(20, 1)), (None, 0, false));
    assert!(space.release(Run { start: 8, pages: 12 }));
    assert_eq!((space.end(), space.room_at(8)), (8, 2));
    assert_eq!(space.allocate(3, 1), None);
    assert_eq!(space.allocate(2, 1), Some(Run { start: 8, pages: 2 }));
    assert_eq!(Space::default().allocate(1, 1), None);
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
