//! The cut: which changes belong to which flush.
//!
//! Time is divided into epochs. Every change of a region happens in the epoch that is current while
//! the region is locked, and a flush begins by starting the next one: all changes of the epochs
//! before are the flush's, all later ones are not. That is promise 2: if a change B began after a
//! change A returned, B cannot be in an earlier epoch than A.
//!
//! No lock is shared by all writers. A region's first change in an epoch puts it on the dirty list
//! (that takes the list's lock); further ones compare one number. A writer that comes to a region
//! before the flush does captures it as it was at the cut, and leaves that for the flush.
//!
//! Epochs are counted in 64 bits. The number that writers compare is the low bits, which is enough:
//! a region stands on the list of this epoch or of the one before, or on none.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use lock_api::RwLockReadGuard;

use crate::error::{Error, Result};
use crate::flush::FlushReport;
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::state::{Live, State};
use crate::store::{Inner, Store};

/// The epoch, and the regions that changed in it.
#[derive(Debug)]
pub(crate) struct Dirty {
    pub(crate) epoch: u64,
    /// A flush has made its cut (the epoch before this one) and not seen every region yet.
    pub(crate) cut_open: bool,
    pub(crate) list: Vec<u32>,
}

impl Dirty {
    pub(crate) const fn new() -> Self {
        Self { epoch: 1, cut_open: false, list: Vec::new() }
    }
}

impl<P: Platform> Inner<P> {
    /// The low bits of the epoch, for comparing.
    pub(crate) fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Acquire)
    }

    /// Says that the region is about to change. Called with its lock held, before the change.
    pub(crate) fn touch(&self, index: u32, state: &mut State<P>) {
        let now = self.epoch();
        if state.live(&self.base).listed == Some(now) {
            return;
        }
        loop {
            let (epoch, open) = {
                let mut dirty = self.dirty.lock();
                let live = state.live(&self.base);
                let cut = dirty.epoch - 1;
                let captured = live.visited == cut
                    || live.captured.as_ref().is_some_and(|(number, _)| *number == cut);
                if !dirty.cut_open || captured || mutant::is(Mutant::MixedCut) {
                    if live.listed != Some(dirty.epoch as usize) {
                        dirty.list.push(index);
                        live.listed = Some(dirty.epoch as usize);
                    }
                    live.epoch = dirty.epoch;
                    return;
                }
                (dirty.epoch, dirty.cut_open)
            };
            debug_assert!(open);
            let capture =
                state.capture(&self.base, index, epoch - 1, |pages| self.allocate_at_cut(pages));
            state.live(&self.base).captured = Some((epoch - 1, Box::new(capture)));
        }
    }

    /// Puts a region that has just been made on the dirty list: no cut before this epoch has anything
    /// to capture of it, so that must be decided together with the epoch.
    pub(crate) fn touch_new(&self, index: u32, live: &mut Live<P>) {
        let mut dirty = self.dirty.lock();
        live.visited = dirty.epoch - 1;
        live.epoch = dirty.epoch;
        live.listed = Some(dirty.epoch as usize);
        dirty.list.push(index);
    }

    /// Whether the calling thread holds the cut open.
    pub(crate) fn held_by_this_thread(&self) -> bool {
        let thread = self.base.platform.thread();
        self.holders.lock().contains(&thread)
    }
}

/// The cut, held open: no flush divides what happens while this lives, so that all of it lands in
/// one flush.
///
/// Made by [`Store::hold`]. It keeps flushes waiting, and nothing else: reading and writing go on
/// in all threads. Dropping it does not flush; [`flush`](Self::flush) does both. A crash while
/// it is held leaves the last flushed state, of course, without any of what happened inside.
#[must_use = "the cut is held open only as long as this lives"]
pub struct Hold<'a, P: Platform> {
    store: &'a Store<P>,
    thread: u64,
    _guard: RwLockReadGuard<'a, P::RawRwLock, ()>,
    /// The thread that made it must drop it.
    _thread_bound: PhantomData<*const ()>,
}

impl<'a, P: Platform> Hold<'a, P> {
    pub(crate) fn new(store: &'a Store<P>) -> Result<Self> {
        let inner = store.inner();
        if inner.held_by_this_thread() {
            return Err(Error::HoldActive);
        }
        let guard = inner.hold.read();
        let thread = inner.base.platform.thread();
        inner.holders.lock().push(thread);
        Ok(Self { store, thread, _guard: guard, _thread_bound: PhantomData })
    }

    /// Lets go and flushes: everything that happened while the cut was held lands in one flush,
    /// with whatever other threads did.
    ///
    /// # Errors
    ///
    /// As [`Store::flush`].
    pub fn flush(self) -> Result<FlushReport> {
        let store = self.store;
        drop(self);
        store.flush()
    }
}

impl<P: Platform> Drop for Hold<'_, P> {
    fn drop(&mut self) {
        let mut holders = self.store.inner().holders.lock();
        if let Some(at) = holders.iter().position(|thread| *thread == self.thread) {
            holders.swap_remove(at);
        }
    }
}

impl<P: Platform> core::fmt::Debug for Hold<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hold").field("thread", &self.thread).finish()
    }
}
