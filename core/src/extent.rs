//! Extents: the runs of pages that regions live in, from allocation until their space may be used
//! again.
//!
//! An [`Extent`] exists while anybody may look at the pages of a run: the region itself, readers,
//! a flush under way. When its region leaves it (by a move, a removal, a trim), the run is
//! *retired*: it keeps its bytes until the rules of release (F7, I6) allow it to become a hole.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::mutant::{self, Mutant};
use crate::run::Run;

/// A run of pages that belongs, or belonged, to a region. Shared by everyone who may still read it.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Whether any flush, durable or not, ever named this extent. Until then it leaves no trace.
    named: AtomicBool,
    /// Whether this generation's journal or checkpoint holds bytes for a page of it (I12).
    journaled: AtomicBool,
}

impl Extent {
    pub(crate) fn new(named: bool) -> Arc<Self> {
        Arc::new(Self { named: AtomicBool::new(named), journaled: AtomicBool::new(false) })
    }

    pub(crate) fn named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    pub(crate) fn set_named(&self) {
        self.named.store(true, Ordering::Release);
    }

    pub(crate) fn journaled(&self) -> bool {
        self.journaled.load(Ordering::Acquire)
    }

    pub(crate) fn set_journaled(&self, journaled: bool) {
        self.journaled.store(journaled, Ordering::Release);
    }
}

/// A run that its region has left, and what has to happen before it becomes a hole.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) run: Run,
    /// The epoch in which the region left it.
    pub(crate) left: u64,
    /// Readers and flushes hold clones of this; the last clone being ours means that nobody looks.
    pub(crate) extent: Arc<Extent>,
    /// The extent lives on in its region, which gave back only its end.
    pub(crate) trimmed: bool,
}

/// The retired runs of a store.
#[derive(Debug, Default)]
pub(crate) struct Retirement {
    runs: Vec<Retired>,
    pages: u64,
}

impl Retirement {
    pub(crate) fn push(&mut self, retired: Retired) {
        self.pages += retired.run.pages;
        self.runs.push(retired);
    }

    /// How many pages wait to be released.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// How many pages wait for nothing but a checkpoint.
    pub(crate) fn pages_behind_checkpoint(&self) -> u64 {
        self.runs.iter().filter(|r| r.extent.journaled()).map(|r| r.run.pages).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Retired> {
        self.runs.iter()
    }

    /// Takes out every run that nobody looks at and that no recovery could name any more (F7):
    /// `durable` is the newest cut whose flush was published, `checkpoint` the newest cut whose
    /// checkpoint flush was.
    pub(crate) fn release(&mut self, durable: u64, checkpoint: u64) -> Vec<Run> {
        let mut released = Vec::new();
        self.runs.retain(|retired| {
            let unpinned = retired.trimmed
                || Arc::strong_count(&retired.extent) == 1
                || mutant::is(Mutant::ReleasedPinned);
            let journaled = retired.extent.journaled() && !mutant::is(Mutant::JournaledReleased);
            let unnamed = !retired.extent.named()
                || ((durable >= retired.left || mutant::is(Mutant::ReleaseIgnoresCut))
                    && (!journaled || checkpoint >= retired.left));
            let free = unpinned && unnamed;
            if free {
                released.push(retired.run);
            }
            !free
        });
        self.pages -= released.iter().map(|run| run.pages).sum::<u64>();
        released
    }
}
