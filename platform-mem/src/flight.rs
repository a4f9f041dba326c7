//! What a page may become while it is in flight: the versions of its sectors since they were last
//! durable, and how one of them, a torn mix or garbage is made of them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::pages::{PAGE, Page};
use crate::prng::{Prng, mix};

/// Bytes in a sector of [`SimDisk`](crate::SimDisk): the piece that survives a crash or does not.
pub const SECTOR_SIZE: u32 = 512;

pub(crate) const SECTOR: usize = SECTOR_SIZE as usize;
/// Sectors in a page.
pub(crate) const SECTORS: usize = PAGE / SECTOR;
/// Every sector of a page, as a set of bits.
pub(crate) const ALL_SECTORS: u8 = u8::MAX;

/// What a crash makes of one sector in flight.
///
/// Versions are counted from 0, the durable one, through those written since, in order. A number
/// past the newest means the newest, so that `u32::MAX` always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// One version as a whole.
    Version(u32),
    /// The first `split` bytes of one version and the others of another.
    Torn {
        /// The version of the first bytes.
        head: u32,
        /// The version of the bytes after them.
        tail: u32,
        /// How many bytes come from `head`: 0 to [`SECTOR_SIZE`].
        split: u16,
    },
    /// Bytes that nobody wrote: zeros, ones or noise, depending on the number and the place of the
    /// sector. A sector that was only cut off, not written, keeps its durable version instead.
    Garbage(u64),
}

impl Fate {
    /// What was durable before.
    pub const OLDEST: Self = Self::Version(0);
    /// What was written last.
    pub const NEWEST: Self = Self::Version(u32::MAX);
}

/// The fates of the sectors of a page.
pub(crate) type Fates = [Fate; SECTORS];

/// A page as one call left it.
#[derive(Clone)]
pub(crate) struct Version {
    /// The number of the call since the disk was made.
    pub(crate) call: u64,
    pub(crate) page: Option<Arc<Page>>,
}

/// A page of which at least one sector is in flight.
#[derive(Clone, Default)]
pub(crate) struct Flight {
    pub(crate) versions: Vec<Version>,
    /// For each sector in flight, the first of `versions` that is later than its durable bytes.
    since: [u32; SECTORS],
    in_flight: u8,
    /// The sectors that may become garbage.
    may_break: u8,
}

impl Flight {
    /// Notes a new version, which puts all sectors in flight. `breaks` says whether the medium
    /// rewrites the page, so that a crash may leave garbage.
    pub(crate) fn touch(&mut self, call: u64, page: Option<Arc<Page>>, breaks: bool) {
        let number = self.versions.len() as u32;
        for sector in 0..SECTORS {
            if !self.has(sector) {
                self.since[sector] = number;
            }
        }
        self.versions.push(Version { call, page });
        self.in_flight = ALL_SECTORS;
        if breaks {
            self.may_break = ALL_SECTORS;
        }
    }

    /// Notes that some sectors have reached their end: durable, or taken for durable.
    pub(crate) fn settle(&mut self, sectors: u8) {
        self.in_flight &= !sectors;
        self.may_break &= !sectors;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether a sector is in flight.
    pub(crate) fn has(&self, sector: usize) -> bool {
        self.in_flight & 1 << sector != 0
    }

    pub(crate) fn may_break(&self, sector: usize) -> bool {
        self.may_break & 1 << sector != 0
    }

    pub(crate) fn any_may_break(&self) -> bool {
        self.may_break != 0
    }

    /// How many versions a sector has, with the durable one.
    pub(crate) fn count(&self, sector: usize) -> u32 {
        if self.has(sector) { self.versions.len() as u32 - self.since[sector] + 1 } else { 1 }
    }

    /// The fate that gives a sector the last of `versions` that `shown` accepts, and the durable
    /// bytes where it accepts none.
    pub(crate) fn last(&self, sector: usize, mut shown: impl FnMut(&Version) -> bool) -> Fate {
        if !self.has(sector) {
            return Fate::OLDEST;
        }
        let since = self.since[sector] as usize;
        let versions = self.versions.get(since..).unwrap_or_default();
        let found = versions.iter().rposition(&mut shown);
        Fate::Version(found.map_or(0, |i| i as u32 + 1))
    }

    /// The fate that gives a sector what it was after the first `number` of `versions`.
    pub(crate) fn upto(&self, sector: usize, number: usize) -> Fate {
        let since = if self.has(sector) { self.since[sector] as usize } else { usize::MAX };
        Fate::Version(number.saturating_sub(since) as u32)
    }

    /// The page that shows a version of a sector; none stands for zeros.
    pub(crate) fn version<'a>(
        &'a self,
        durable: Option<&'a Arc<Page>>,
        sector: usize,
        version: u32,
    ) -> Option<&'a Arc<Page>> {
        let version = version.min(self.count(sector) - 1);
        match version.checked_sub(1) {
            None => durable,
            Some(later) => {
                let at = self.since[sector] as usize + later as usize;
                self.versions.get(at).and_then(|v| v.page.as_ref())
            }
        }
    }

    /// The page of which each sector met its fate. Shares a version where all sectors agree on it.
    pub(crate) fn compose(
        &self,
        durable: Option<&Arc<Page>>,
        index: u64,
        fates: &Fates,
    ) -> Option<Arc<Page>> {
        if let Some(whole) = self.agreed(durable, fates) {
            return whole.cloned();
        }
        let mut page = Page::ZERO;
        for (sector, fate) in fates.iter().enumerate() {
            let start = sector * SECTOR;
            let out = &mut page.0[start..start + SECTOR];
            let mut copy = |version, from: usize, to: usize| {
                if let Some(shown) = self.version(durable, sector, version) {
                    out[from..to].copy_from_slice(&shown.0[start + from..start + to]);
                }
            };
            match *fate {
                Fate::Version(version) => copy(version, 0, SECTOR),
                Fate::Torn { head, tail, split } => {
                    let split = usize::from(split).min(SECTOR);
                    copy(head, 0, split);
                    copy(tail, split, SECTOR);
                }
                Fate::Garbage(seed) if self.may_break(sector) => {
                    garbage(seed, index * SECTORS as u64 + sector as u64, out);
                }
                Fate::Garbage(_) => copy(0, 0, SECTOR),
            }
        }
        Some(Arc::new(page))
    }

    /// The page that all sectors show, if it is one.
    fn agreed<'a>(
        &'a self,
        durable: Option<&'a Arc<Page>>,
        fates: &Fates,
    ) -> Option<Option<&'a Arc<Page>>> {
        let mut agreed = None;
        for (sector, fate) in fates.iter().enumerate() {
            let Fate::Version(version) = *fate else { return None };
            let shown = self.version(durable, sector, version);
            match agreed {
                None => agreed = Some(shown),
                Some(other) if same(shown, other) => {}
                Some(_) => return None,
            }
        }
        agreed
    }
}

/// Whether two pages are one and the same.
pub(crate) fn same(a: Option<&Arc<Page>>, b: Option<&Arc<Page>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// The bytes of a sector in a page that may not be there.
pub(crate) fn sector_bytes(page: Option<&Arc<Page>>, sector: usize) -> &[u8] {
    static ZEROS: [u8; SECTOR] = [0; SECTOR];
    match page {
        Some(page) => &page.0[sector * SECTOR..(sector + 1) * SECTOR],
        None => &ZEROS,
    }
}

/// Garbage of one sector: zeros and ones now and then, since these are what a checksum that starts
/// badly takes for valid; noise else.
fn garbage(seed: u64, sector: u64, out: &mut [u8]) {
    let start = mix(seed, sector);
    match start % 8 {
        0 => out.fill(0),
        1 => out.fill(u8::MAX),
        _ => {
            let mut prng = Prng::new(start);
            for part in out.chunks_mut(8) {
                part.copy_from_slice(&prng.bits().to_le_bytes()[..part.len()]);
            }
        }
    }
}
