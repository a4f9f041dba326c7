//! Putting in place (P5): pages whose images are durable in the journal go from memory to their places,
//! where no reader's bytes change. Never while a flush is under way, which the flush lock, held by
//! every caller, makes sure of.

use alloc::vec::Vec;

use crate::capture::Capture;
use crate::error::Result;
use crate::flush::Flusher;
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::spill::write_pages;
use crate::store::Inner;
use crate::usage::Counters;

/// A flush puts up to this many of its pages in place at once, so that a small region is at rest
/// after it. More are left for when memory is short, or for the next checkpoint.
const PUT_AT_ONCE: usize = 4;

impl<P: Platform> Inner<P> {
    /// P5 for the pages of a flush, if they are few.
    pub(crate) fn put_captured_in_place(&self, flusher: &Flusher, captures: &[Capture<P>]) {
        let inlined: usize = captures.iter().map(|capture| capture.pages.len()).sum();
        if inlined <= PUT_AT_ONCE {
            for capture in captures.iter().filter(|capture| !capture.pages.is_empty()) {
                // The flush has succeeded. What cannot be put in place now stays in memory.
                let _ = self.put_in_place(flusher, capture.index);
            }
        }
    }

    /// Gives memory back by putting pages in place (P5), unless a flush is under way.
    pub(crate) fn put_some_in_place(&self) -> Result<()> {
        match self.flusher.try_lock() {
            Some(flusher) => self.put_queued(&flusher),
            None => Ok(()),
        }
    }

    pub(crate) fn put_queued(&self, flusher: &Flusher) -> Result<()> {
        let list = core::mem::take(&mut *self.overlaid.lock());
        let mut result = Ok(());
        for index in list {
            if result.is_ok() {
                result = self.put_in_place(flusher, index);
            }
            let Some(slot) = self.slots.get(index) else { continue };
            if let Some(live) = &mut slot.lock().live {
                // What a reader looks at, or what failed, is for the next time.
                live.queued = live.in_memory > 0;
                if live.queued {
                    self.overlaid.lock().push(index);
                }
            }
        }
        result
    }

    /// P5: puts the pages of a region in place whose images are in a durable batch, where no
    /// reader's bytes change.
    fn put_in_place(&self, flusher: &Flusher, index: u32) -> Result<()> {
        let base = &self.base;
        let Some(slot) = self.slots.get(index) else { return Ok(()) };
        let Some(io) = slot.lock().live.as_ref().map(|live| live.io.clone()) else { return Ok(()) };
        let _io = io.lock();
        let (run, extent, pages) = {
            let mut state = slot.lock();
            let run = state.run;
            let Some(live) = state.live.as_deref_mut() else { return Ok(()) };
            let pages: Vec<_> = live
                .pages
                .iter()
                .filter(|(number, page)| {
                    page.journaled
                        && page.dirty.is_clean()
                        && (page.cut <= flusher.durable_cut || mutant::is(Mutant::KernelImagePut))
                        && !live.is_mapped(*number)
                })
                .filter_map(|(number, page)| Some((run.start + number, page.bytes.clone()?)))
                .collect();
            (run, live.extent.clone(), pages)
        };
        if pages.is_empty() {
            return Ok(());
        }
        self.grow_for(run)?;
        write_pages(base, &pages)?;
        let mut state = slot.lock();
        let Some(live) = state.live.as_deref_mut() else { return Ok(()) };
        if live.lives_in(&extent) {
            for (place, bytes) in &pages {
                live.page_is_at(base, place - run.start, bytes);
            }
        }
        Counters::add(&self.counters.pages_put, pages.len());
        Ok(())
    }
}
