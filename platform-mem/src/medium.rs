//! The state of a simulated disk: what the cache shows, what is durable, and what lies between.
//!
//! The cache is what reads see. A page whose sectors are not known to be durable is in flight. A
//! page is *stale* where a failed sync lost it: the cache shows other bytes than the disk has, and
//! nobody will write it again unless somebody changes it again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::flight::{ALL_SECTORS, Fate, Fates, Flight, SECTOR, SECTORS, same};
use crate::pages::{PAGE, PAGE_SIZE, Page, Pages, pieces};
use crate::prng::Prng;

/// How much of what is in flight gets through a sync that fails or lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persisted {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// Of each sector, and of the length, some version, as the seed has it.
    Sample(u64),
}

/// The state. All methods are deterministic.
#[derive(Clone, Default)]
pub(crate) struct Medium {
    durable: Pages,
    durable_len: u64,
    cache: Pages,
    len: u64,
    /// The lengths since the durable one, with the calls that made them.
    lens: Vec<(u64, u64)>,
    flight: BTreeMap<u64, Flight>,
    /// Pages whose durable bytes may differ from those of the cache although not in flight.
    stale: BTreeSet<u64>,
    len_stale: bool,
    /// Changes so far: the number of the next one.
    calls: u64,
}

impl Medium {
    /// A medium on which `bytes` are durable.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut cache = Pages::default();
        cache.write(0, bytes);
        Self::settled(cache, bytes.len() as u64)
    }

    fn settled(pages: Pages, len: u64) -> Self {
        Self { durable: pages.clone(), durable_len: len, cache: pages, len, ..Self::default() }
    }

    pub(crate) fn cache(&self) -> &Pages {
        &self.cache
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The pages in flight, in order.
    pub(crate) fn flight(&self) -> impl Iterator<Item = (u64, &Flight)> {
        self.flight.iter().map(|(&index, flight)| (index, flight))
    }

    /// The durable bytes of a page.
    pub(crate) fn durable_page(&self, index: u64) -> Option<&Arc<Page>> {
        self.durable.page(index)
    }

    /// The lengths that may survive, the durable one first, each with the call that made it.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let durable = core::iter::once((None, self.durable_len));
        durable.chain(self.lens.iter().map(|&(call, len)| (Some(call), len)))
    }

    fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls - 1
    }

    fn touch(&mut self, index: u64, call: u64, breaks: bool) {
        let page = self.cache.page(index).cloned();
        self.flight.entry(index).or_default().touch(call, page, breaks);
        self.stale.remove(&index);
    }

    fn resize(&mut self, call: u64, len: u64) {
        if len != self.len {
            self.len = len;
            self.lens.push((call, len));
        }
    }

    pub(crate) fn grow(&mut self, len: u64) {
        let call = self.next_call();
        self.resize(call, len.max(self.len));
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let call = self.next_call();
        self.write_as(call, offset, bytes);
        if !bytes.is_empty() {
            self.resize(call, self.len.max(offset + bytes.len() as u64));
        }
    }

    fn write_as(&mut self, call: u64, offset: u64, bytes: &[u8]) {
        for (index, start, range) in pieces(offset, bytes.len()) {
            let part = &bytes[range];
            let there = self.cache.page(index).map(|page| &page.0[start..start + part.len()]);
            // The same bytes again share the page of the version before: it is in flight all the
            // same, but costs no memory and is not one image more.
            if there != Some(part) {
                self.cache.put(index, start, part);
            }
            self.touch(index, call, true);
        }
    }

    pub(crate) fn cut(&mut self, len: u64) {
        let call = self.next_call();
        if len >= self.len {
            return;
        }
        let start = (len % u64::from(PAGE_SIZE)) as usize;
        let index = len / u64::from(PAGE_SIZE);
        let tail = self.cache.page(index).map(|page| &page.0[start..]);
        if start != 0 && tail.is_some_and(|tail| tail.iter().any(|&byte| byte != 0)) {
            // Whoever cuts inside a page makes the machine write zeros behind the cut.
            self.write_as(call, len, &[0; PAGE][start..]);
        }
        self.vanish(call, len.div_ceil(u64::from(PAGE_SIZE)), u64::MAX, false);
        self.resize(call, len);
    }

    /// Gives back whole pages, and answers whether there were any.
    pub(crate) fn punch(&mut self, from: u64, to: u64) -> bool {
        let call = self.next_call();
        self.vanish(call, from, to, true)
    }

    fn vanish(&mut self, call: u64, from: u64, to: u64, breaks: bool) -> bool {
        let mut gone = Vec::new();
        self.cache.visit(from, to, &mut |index, _| gone.push(index));
        self.cache.remove(from, to);
        for &index in &gone {
            self.touch(index, call, breaks);
        }
        !gone.is_empty()
    }

    /// A sync that keeps its word.
    pub(crate) fn sync(&mut self) {
        if self.stale.is_empty() && !self.len_stale {
            self.durable = self.cache.clone();
            self.durable_len = self.len;
        } else {
            self.sync_stale();
        }
        self.flight.clear();
        self.lens.clear();
    }

    /// A sync after one that failed: what was lost stays lost, only what is in flight gets through.
    fn sync_stale(&mut self) {
        let mut end = 0;
        for (&index, flight) in &self.flight {
            let page = flight.compose(self.durable.page(index), index, &[Fate::NEWEST; SECTORS]);
            end = if page.is_some() { (index + 1) * u64::from(PAGE_SIZE) } else { end };
            self.durable.set(index, page);
        }
        if self.lens.is_empty() {
            // A length that was lost comes back as far as there are new bytes to be found there.
            self.durable_len = self.durable_len.max(end.min(self.len));
        } else {
            self.durable_len = self.len;
        }
        self.len_stale = self.durable_len != self.len;
        self.durable.trim(self.durable_len);
    }

    /// Makes the written range durable, with a length that covers it, and nothing else.
    pub(crate) fn sync_range(&mut self, offset: u64, len: usize) {
        if len == 0 {
            return;
        }
        for (index, sectors) in sectors_of(offset, len) {
            self.settle(index, sectors, &[Fate::NEWEST; SECTORS]);
        }
        self.sync_len(offset + len as u64);
    }

    fn sync_len(&mut self, end: u64) {
        self.durable_len = self.durable_len.max(end);
        self.lens.retain(|&(_, len)| len >= end);
        self.len_stale = self.len_stale && self.durable_len != self.len;
    }

    /// Gives the sectors of a page that are in flight their fates, for good.
    fn settle(&mut self, index: u64, sectors: u8, fates: &Fates) {
        let Some(flight) = self.flight.get_mut(&index) else { return };
        let durable = self.durable.page(index);
        let mut all = [Fate::OLDEST; SECTORS];
        for sector in 0..SECTORS {
            if sectors & 1 << sector != 0 {
                all[sector] = fates[sector];
            }
        }
        let page = flight.compose(durable, index, &all);
        let changed = !same(page.as_ref(), durable);
        flight.settle(sectors);
        if flight.is_settled() {
            self.flight.remove(&index);
        }
        if changed {
            self.durable.set(index, page);
        }
    }

    /// A sync that fails: some of it gets through, and all of it looks clean afterwards.
    pub(crate) fn fail_sync(&mut self, persisted: Persisted) {
        let mut prng = seeded(persisted);
        let indexes: Vec<_> = self.flight.keys().copied().collect();
        for index in indexes {
            self.lose(index, ALL_SECTORS, persisted, &mut prng);
        }
        self.durable_len = self.some_length(persisted, &mut prng);
        self.lens.clear();
        self.len_stale = self.durable_len != self.len;
        self.durable.trim(self.durable_len);
    }

    /// The same for a write that was to be durable: only its own sectors are lost.
    pub(crate) fn fail_sync_range(&mut self, offset: u64, len: usize, persisted: Persisted) {
        let mut prng = seeded(persisted);
        for (index, sectors) in sectors_of(offset, len) {
            self.lose(index, sectors, persisted, &mut prng);
        }
    }

    fn lose(&mut self, index: u64, sectors: u8, persisted: Persisted, prng: &mut Prng) {
        let Some(flight) = self.flight.get(&index) else { return };
        let fates = core::array::from_fn(|sector| match persisted {
            Persisted::Nothing => Fate::OLDEST,
            Persisted::Everything => Fate::NEWEST,
            Persisted::Sample(_) => {
                Fate::Version(prng.below(u64::from(flight.count(sector))) as u32)
            }
        });
        self.settle(index, sectors, &fates);
        self.stale.insert(index);
    }

    fn some_length(&self, persisted: Persisted, prng: &mut Prng) -> u64 {
        let choice = match persisted {
            Persisted::Nothing => 0,
            Persisted::Everything => self.lens.len(),
            Persisted::Sample(_) => prng.below(self.lens.len() as u64 + 1) as usize,
        };
        self.lengths().nth(choice).map_or(self.durable_len, |(_, len)| len)
    }

    /// A sync that lies: some of it gets through, the rest stays in flight.
    pub(crate) fn pretend_sync(&mut self, persisted: Persisted) {
        match persisted {
            Persisted::Nothing => {}
            Persisted::Everything => self.sync(),
            Persisted::Sample(seed) => {
                let mut prng = Prng::new(seed);
                let indexes: Vec<_> = self.flight.keys().copied().collect();
                for index in indexes {
                    self.settle(index, prng.bits() as u8, &[Fate::NEWEST; SECTORS]);
                }
                if prng.below(2) == 0 {
                    self.durable_len = self.len;
                    self.lens.clear();
                    self.len_stale = false;
                }
            }
        }
    }

    /// The same for a write that was to be durable.
    pub(crate) fn pretend_sync_range(&mut self, offset: u64, len: usize, persisted: Persisted) {
        match persisted {
            Persisted::Nothing => {}
            Persisted::Everything => self.sync_range(offset, len),
            Persisted::Sample(seed) => {
                let mut prng = Prng::new(seed);
                for (index, sectors) in sectors_of(offset, len) {
                    let some = sectors & prng.bits() as u8;
                    self.settle(index, some, &[Fate::NEWEST; SECTORS]);
                }
                if len > 0 && prng.below(2) == 0 {
                    self.sync_len(offset + len as u64);
                }
            }
        }
    }

    /// Flips a bit of what is durable, in the cache, and of every version in flight.
    pub(crate) fn flip_bit(&mut self, offset: u64, bit: u8) {
        if offset >= self.len.max(self.durable_len) {
            return;
        }
        let index = offset / u64::from(PAGE_SIZE);
        let at = (offset % u64::from(PAGE_SIZE)) as usize;
        let mask = 1 << (bit % 8);
        if offset < self.durable_len {
            self.durable.page_mut(index).0[at] ^= mask;
        }
        if offset < self.len {
            self.cache.page_mut(index).0[at] ^= mask;
        }
        for version in self.flight.get_mut(&index).into_iter().flat_map(|f| &mut f.versions) {
            if let Some(page) = &mut version.page {
                Arc::make_mut(page).0[at] ^= mask;
            }
        }
    }

    /// The medium after a crash: `fates` says what becomes of each page in flight, in order, `len`
    /// is the length that survives. Costs what is in flight.
    pub(crate) fn image(&self, len: u64, mut fates: impl FnMut(u64, &Flight) -> Fates) -> Self {
        let pages = self.flight().map(|(index, flight)| {
            let fates = fates(index, flight);
            (index, flight.compose(self.durable.page(index), index, &fates))
        });
        self.image_of(len, pages)
    }

    /// The medium after a crash that leaves the given pages in place of those in flight.
    pub(crate) fn image_of(
        &self,
        len: u64,
        pages: impl Iterator<Item = (u64, Option<Arc<Page>>)>,
    ) -> Self {
        let mut image = self.durable.clone();
        for (index, page) in pages {
            if !same(page.as_ref(), image.page(index)) {
                image.set(index, page);
            }
        }
        // Versions older than a cut have bytes behind it.
        image.trim(len);
        Self { calls: self.calls, ..Self::settled(image, len) }
    }
}

fn seeded(persisted: Persisted) -> Prng {
    Prng::new(if let Persisted::Sample(seed) = persisted { seed } else { 0 })
}

/// The pages that a range touches, each with the set of its sectors that the range touches.
fn sectors_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, u8)> {
    pieces(offset, len).map(|(index, start, range)| {
        let first = start / SECTOR;
        let last = (start + range.len() - 1) / SECTOR;
        let sectors = (first..=last).fold(0, |set, sector| set | 1 << sector);
        (index, sectors)
    })
}
