//! A region as it was at a cut: what a flush writes, and what goes back to the region if it cannot.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::Base;
use crate::extent::Extent;
use crate::mutant::{self, Mutant};
use crate::page_map::PageMap;
use crate::platform::Platform;
use crate::run::Run;
use crate::state::{Changed, Dirty, IoLock, Page, State};
use crate::table::NameRef;

/// What becomes of a captured page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its bytes go into the batch.
    Inlined,
    /// Its bytes go to their place.
    Placed,
    /// Its bytes go into the checkpoint.
    Carried,
}

/// A page as it was at a cut.
#[derive(Clone, Debug)]
pub(crate) struct CapturedPage {
    pub(crate) page: u64,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) dirty: Dirty,
    pub(crate) journaled: bool,
    /// P3 at the cut.
    pub(crate) fresh: bool,
    /// A reader maps the page in place.
    pub(crate) blocked: bool,
    pub(crate) fate: Fate,
}

/// A region as it was at a cut.
pub(crate) struct Capture<P: Platform> {
    pub(crate) index: u32,
    pub(crate) id: u64,
    pub(crate) changed: Changed,
    pub(crate) removed: bool,
    pub(crate) name: NameRef,
    pub(crate) run: Run,
    pub(crate) len: u64,
    pub(crate) extent: Option<Arc<Extent>>,
    pub(crate) io: IoLock<P>,
    /// The dirty pages that were in memory, ascending.
    pub(crate) pages: Vec<CapturedPage>,
    /// All pages with something to say, as they were left by the cut.
    pub(crate) all: PageMap<Page>,
    /// The page numbers from..to that are in place, but not durable.
    pub(crate) drained: (u64, u64),
}

impl<P: Platform> State<P> {
    /// Takes the region as it is now for the flush of `cut`, and makes it clean: what changes from
    /// here on belongs to a later flush. `allocate` gives an extent to a region that has bytes but
    /// no place yet.
    pub(crate) fn capture(
        &mut self,
        base: &Base<P>,
        index: u32,
        cut: u64,
        allocate: impl FnOnce(u64) -> Run,
    ) -> Capture<P> {
        if self.run.is_empty() && self.len > 0 && !self.live(base).removed {
            let run = allocate(base.page_of(base.page_up(self.len)));
            self.run = run;
            let live = self.live(base);
            live.extent = Some(Extent::new(false));
            live.changed.add(Changed::RUN);
        }
        let (id, name, run, len) = (self.id, self.name, self.run, self.len);
        assert!(base.pages(len) <= run.pages, "I8: region {id} has {len} bytes in {run:?}");
        let live = self.live(base);
        live.visited = cut;
        live.listed = None;
        let end = base.page_up(len);
        let drained =
            (base.page_of(live.drained_from.min(end)), base.page_of(live.tail_base.min(end)));
        live.move_tail_to_pages(base, len);
        let mut numbers = core::mem::take(&mut live.dirty_pages);
        numbers.sort_unstable();
        numbers.dedup();
        let mut pages = Vec::with_capacity(numbers.len());
        for number in numbers {
            let (fresh, blocked) = (live.is_fresh(base, number), live.is_mapped(number));
            let Some(page) = live.pages.get_mut(number) else { continue };
            let Some(bytes) = page.bytes.clone() else { continue };
            if page.dirty.is_clean() {
                continue;
            }
            let dirty = core::mem::take(&mut page.dirty);
            page.cut = cut;
            let journaled = page.journaled;
            let fate = Fate::Inlined;
            pages.push(CapturedPage {
                page: number,
                bytes,
                dirty,
                journaled,
                fresh,
                blocked,
                fate,
            });
        }
        // P1: the floor rises at the cut, so that nothing drains over what the flush captured.
        live.floor = live.floor.max(match () {
            () if mutant::is(Mutant::FloorAtPublish) => 0,
            () if mutant::is(Mutant::FloorInBytes) => len & !(base.page_size() - 1),
            () => end,
        });
        live.reset_tail_base(base, len);
        live.drained_from = live.tail_base;
        if let Some(extent) = &live.extent {
            extent.set_named();
        }
        Capture {
            index,
            id,
            changed: core::mem::take(&mut live.changed),
            removed: live.removed,
            name,
            run,
            len,
            extent: live.extent.clone(),
            io: live.io.clone(),
            pages,
            all: live.pages.clone(),
            drained,
        }
    }

    /// Puts back what a flush captured and could not write, so that the next one writes it.
    pub(crate) fn restore(&mut self, base: &Base<P>, capture: &Capture<P>) {
        let len = self.len;
        let live = self.live(base);
        live.changed.add(capture.changed);
        let same_extent = match (&live.extent, &capture.extent) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        if !same_extent {
            return; // In a new extent all is dirty anyway.
        }
        if capture.drained.0 < capture.drained.1 {
            live.drained_from = live.drained_from.min(base.page_offset(capture.drained.0));
        }
        for number in capture.drained_pages() {
            // One that was brought into memory since the cut passed for clean, and is not.
            if let Some(page) = live.pages.get_mut(number).filter(|page| page.bytes.is_some()) {
                let used = base.page_size().min(len.saturating_sub(base.page_offset(number)));
                if page.dirty.add(0, used as u32) {
                    live.dirty_pages.push(number);
                }
            }
        }
        for captured in &capture.pages {
            if let Some(page) = live.pages.get_mut(captured.page) {
                if page.bytes.is_some() && page.dirty.add(captured.dirty.from, captured.dirty.to) {
                    live.dirty_pages.push(captured.page);
                }
            }
        }
    }
}

impl<P: Platform> Capture<P> {
    /// Whether the batch or checkpoint holds bytes of pages that were in memory.
    pub(crate) fn has_images(&self) -> bool {
        self.pages.iter().any(|page| page.fate != Fate::Placed)
    }

    /// This generation holds bytes for places of the extent (I12).
    pub(crate) fn mark_journaled(&self) {
        if let Some(extent) = &self.extent {
            extent.set_journaled(true);
        }
    }

    /// The pages that were in place at the cut, and not durable.
    pub(crate) fn drained_pages(&self) -> impl Iterator<Item = u64> + '_ {
        let (from, to) = self.drained;
        (from..to).filter(|number| self.all.get(*number).is_none_or(|page| page.bytes.is_none()))
    }
}
