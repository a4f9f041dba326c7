//! Opening: options, making a new store, and building a store from what recovery found.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicUsize};

use lock_api::{Mutex, RwLock};

use crate::base::Base;
use crate::epoch::Dirty;
use crate::error::{Error, PlatformError, PlatformErrorKind, Result};
use crate::extent::{Extent, Retirement};
use crate::flush::{FlushReport, Flusher, Request};
use crate::ground::Ground;
use crate::platform::Platform;
use crate::recovery::{self, Recovered};
use crate::run::{FIRST_PAGE, MAX_FILE_LEN, Run, is_page_size, max_pages};
use crate::slots::Slots;
use crate::space::Space;
use crate::state::{Live, Page, State};
use crate::store::{Inner, READ_ONLY, READY, Store, UNCONFIRMED};
use crate::table::Table;
use crate::usage::Counters;

/// Whether a store may, or must, be made where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Open the store, or make it.
    #[default]
    IfMissing,
    /// Open the store; [`Error::NoStore`] if there is none.
    Never,
    /// Make the store; [`Error::StoreExists`] if there is one.
    Always,
}

/// How to open a store. Every option has a default that is safe and suits most programs.
///
/// ```
/// use allod_core::{Create, Options};
/// let store = Options::new()
///     .create(Create::Always)
///     .inline_limit(64 << 10)
///     .open(allod_mem::MemPlatform::new())?;
/// assert!(store.is_empty());
/// # Ok::<(), allod_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    create: Create,
    read_only: bool,
    min_len: u64,
    inline_limit: u64,
    memory_budget: usize,
    journal_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: Create::default(),
            read_only: false,
            min_len: 0,
            inline_limit: 1 << 20,
            memory_budget: 64 << 20,
            journal_size: 8 << 20,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a store may be made. Default: [`Create::IfMissing`].
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: nothing is written, not even by recovery. Default: false; a platform
    /// that cannot be written opens read-only in any case.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Makes the file at least `bytes` long at once. Default: 0.
    #[must_use]
    pub fn min_len(mut self, bytes: u64) -> Self {
        self.min_len = bytes;
        self
    }

    /// Up to so many changed bytes, a flush writes all of them into the journal with one sync;
    /// beyond, new bytes go to their places, which takes two. Default: 1 MiB.
    #[must_use]
    pub fn inline_limit(mut self, bytes: u64) -> Self {
        self.inline_limit = bytes;
        self
    }

    /// How much memory the store aims to hold for bytes that are not in place yet. It is passed
    /// when more than that is overwritten, in small parts of large regions, without a flush.
    /// Default: 64 MiB.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// How long a journal may become before a flush writes a checkpoint instead: at least this, and
    /// at least as long as a checkpoint. Replaying a full journal is part of opening after a crash.
    /// Default: 8 MiB; less than four pages counts as four pages, more than 1 TiB as 1 TiB.
    #[must_use]
    pub fn journal_size(mut self, bytes: u64) -> Self {
        self.journal_size = bytes.min(1 << 40);
        self
    }

    /// Whether these options make a store, for who opens the file behind the platform.
    pub fn creation(&self) -> Create {
        self.create
    }

    /// Whether these options only read, for who opens the file behind the platform.
    pub fn reads_only(&self) -> bool {
        self.read_only
    }

    /// Opens the store on a platform.
    ///
    /// Costs one sequential read of the table of regions. After a crash the journal is replayed
    /// into memory; nothing is written before the first change, which begins with a checkpoint (three
    /// syncs).
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`], [`Error::Newer`], [`Error::Damaged`], [`Error::Unfinished`],
    /// [`Error::NoStore`], [`Error::StoreExists`], [`Error::ReadOnly`] (a store was to be made),
    /// [`Error::PageSize`], [`Error::Platform`], [`Error::OutOfMemory`]. The bytes are as before,
    /// unless a store was being made.
    pub fn open<P: Platform>(&self, platform: P) -> Result<Store<P>> {
        let capabilities = platform.capabilities();
        if !is_page_size(capabilities.page_size) {
            return Err(Error::Platform(
                PlatformError::new(PlatformErrorKind::Unsupported, "open")
                    .detail(alloc::format!("a page size of {} bytes", capabilities.page_size)),
            ));
        }
        let read_only = self.read_only || capabilities.read_only;
        match recovery::recover(&platform) {
            Ok(_) if self.create == Create::Always => Err(Error::StoreExists),
            Ok(recovered) => self.open_recovered(platform, recovered, read_only),
            Err(Error::Unfinished) if self.create == Create::Never => {
                Err(if platform.len()? == 0 { Error::NoStore } else { Error::Unfinished })
            }
            Err(Error::Unfinished) if read_only => Err(Error::ReadOnly),
            Err(Error::Unfinished) => self.make(platform),
            Err(error) => Err(error),
        }
    }

    fn inner<P: Platform>(&self, platform: P, page_size: u32, flusher: Flusher) -> Inner<P> {
        let sparse = platform.capabilities().sparse;
        Inner {
            base: Base::new(platform, page_size),
            sparse,
            inline_limit: self.inline_limit,
            memory_budget: self.memory_budget,
            journal_size: self.journal_size,
            status: AtomicU8::new(READY),
            cause: Mutex::new(None),
            slots: Slots::new(),
            table: RwLock::new(Table::new(1)),
            epoch: AtomicUsize::new(1),
            dirty: Mutex::new(Dirty::new()),
            hold: RwLock::new(()),
            holders: Mutex::new(Vec::new()),
            ground: Mutex::new(Ground {
                space: Space::new(FIRST_PAGE).with_limit(max_pages(page_size)),
                retirement: Retirement::default(),
                file_len: 0,
                changes: 0,
                in_transit: 0,
            }),
            growing: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            flusher: Mutex::new(flusher),
            overlaid: Mutex::new(Vec::new()),
            counters: Counters::default(),
        }
    }

    /// Makes a new store.
    fn make<P: Platform>(&self, platform: P) -> Result<Store<P>> {
        let page_size = platform.capabilities().page_size;
        let store_id = platform.entropy()?;
        let flusher = Flusher {
            store_id,
            generation: 0,
            salt: 0,
            slot: 1,
            slots: [None; 2],
            checkpoint: Run::default(),
            journal: Run::default(),
            used: 0,
            zeroed: 0,
            sequence: 0,
            durable_sequence: 0,
            written_cut: 0,
            durable_cut: 0,
            checkpoint_cut: 0,
            unconfirmed: None,
            last: FlushReport::default(),
        };
        let inner = self.inner(platform, page_size, flusher);
        inner.ground.lock().file_len = inner.base.platform.len()?;
        inner.flush_as(Request::Checkpoint, None).map_err(|error| match error {
            // Nobody has this store yet: it is simply not made.
            Error::Poisoned { cause } => Error::Platform(cause),
            error => error,
        })?;
        self.lengthen(&inner)?;
        Ok(Store { inner: Arc::new(inner) })
    }

    pub(crate) fn lengthen<P: Platform>(&self, inner: &Inner<P>) -> Result<()> {
        if self.min_len > MAX_FILE_LEN {
            return Err(Error::TooLarge {
                what: "bytes in a file",
                requested: self.min_len,
                limit: MAX_FILE_LEN,
            });
        }
        inner.grow_to(inner.base.pages(self.min_len))
    }

    fn open_recovered<P: Platform>(
        &self,
        platform: P,
        recovered: Recovered,
        read_only: bool,
    ) -> Result<Store<P>> {
        let Recovered { superblock, slot, slots, sequence, used, rows, table, pages, unconfirmed } =
            recovered;
        let capabilities = platform.capabilities();
        if !read_only && capabilities.page_size > superblock.page_size {
            return Err(Error::PageSize {
                store: superblock.page_size,
                platform: capabilities.page_size,
            });
        }
        let unknown = superblock.unknown_read_only_compatible();
        if !read_only && unknown != 0 {
            return Err(Error::Newer {
                version: crate::superblock::VERSION,
                supported: crate::superblock::VERSION,
                features: unknown,
            });
        }
        let file_len = unconfirmed.file_len;
        let flusher = Flusher {
            store_id: superblock.store_id,
            generation: superblock.generation,
            salt: superblock.salt,
            slot,
            slots,
            checkpoint: superblock.checkpoint,
            journal: superblock.journal,
            used,
            zeroed: 0,
            sequence,
            durable_sequence: sequence,
            written_cut: 0,
            durable_cut: 0,
            checkpoint_cut: 0,
            unconfirmed: Some(unconfirmed),
            last: FlushReport::default(),
        };
        let mut inner = self.inner(platform, superblock.page_size, flusher);
        inner.status = AtomicU8::new(if read_only { READ_ONLY } else { UNCONFIRMED });
        inner.ground.lock().file_len = file_len;
        let base = inner.base.clone();
        let mut table = table;
        let mut pages = pages.into_iter().peekable();
        for row in rows {
            let index = table.take_slot()?;
            inner.slots.ensure(index)?;
            if !table.enter_unique(row.name, index) {
                return Err(recovery::duplicate("name of a region", row.id));
            }
            let mut live: Option<Box<Live<P>>> = None;
            while pages.next_if(|(place, _)| *place < row.run.start).is_some() {}
            while let Some((place, bytes)) = pages.next_if(|(place, _)| row.run.contains(*place)) {
                let number = place - row.run.start;
                let start = base.page_offset(number);
                if start < row.len {
                    recovery::check_image(&row, start, bytes.len(), base.page_size())?;
                    let live = live.get_or_insert_with(|| Live::at_rest(&base, row.run, row.len));
                    live.adopt(&base, number, Page::new(Some(Arc::from(bytes)), true));
                }
            }
            if let Some(slot) = inner.slots.get(index) {
                *slot.lock() =
                    State { id: row.id, name: row.name, run: row.run, len: row.len, live };
            }
        }
        inner.table = RwLock::new(table);
        if !read_only {
            self.lengthen(&inner)?;
            if let Some(unconfirmed) = &mut inner.flusher.lock().unconfirmed {
                unconfirmed.file_len = inner.ground.lock().file_len;
            }
        }
        Ok(Store { inner: Arc::new(inner) })
    }
}

impl<P: Platform> Live<P> {
    /// Takes over a page that recovery replayed.
    fn adopt(&mut self, base: &Base<P>, number: u64, page: Page) {
        self.pages.insert(number, page);
        self.in_memory += 1;
        self.journaled_end = self.journaled_end.max(number + 1);
        if let Some(extent) = &self.extent {
            Extent::set_journaled(extent, true);
        }
        base.add_memory(base.page_size() as usize);
    }
}
