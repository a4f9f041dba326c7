//! What a power cut may leave of a [`SimDisk`](crate::SimDisk): a [`CrashPlan`] says it sector by
//! sector, and a sampler draws one by lot.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::flight::{Fate, Fates, Flight, SECTOR_SIZE, SECTORS};
use crate::medium::Medium;
use crate::prng::Prng;

/// One possible outcome of a power cut.
///
/// ```
/// use allod_core::platform::Platform;
/// use allod_mem::{CrashPlan, Fate, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.write_sync(0, &[b'a'; 1024])?;
/// disk.write(0, &[b'b'; 1024])?;
///
/// let mut plan = CrashPlan::oldest();
/// plan.sectors.insert(1, Fate::Torn { head: 1, tail: 0, split: 2 });
/// let after = disk.crash(&plan).to_bytes()?;
/// assert_eq!(after[510..516], *b"aabbaa");
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashPlan {
    /// Which version of the length survives, counted as in [`Fate::Version`].
    pub length: u32,
    /// The fates of single sectors in flight, by number (offset divided by [`SECTOR_SIZE`]).
    /// Sectors that are not in flight keep their bytes whatever is said here.
    pub sectors: BTreeMap<u64, Fate>,
    /// The fate of all other sectors in flight.
    pub rest: Fate,
}

impl CrashPlan {
    /// Nothing survives that was not durable.
    #[must_use]
    pub fn oldest() -> Self {
        Self { length: 0, sectors: BTreeMap::new(), rest: Fate::OLDEST }
    }

    /// Everything survives, as if a sync had come first.
    #[must_use]
    pub fn newest() -> Self {
        Self { length: u32::MAX, sectors: BTreeMap::new(), rest: Fate::NEWEST }
    }

    /// Everything in flight becomes garbage of the given seed, below the newest length.
    #[must_use]
    pub fn garbage(seed: u64) -> Self {
        Self { length: u32::MAX, sectors: BTreeMap::new(), rest: Fate::Garbage(seed) }
    }

    pub(crate) fn apply(&self, medium: &Medium) -> Medium {
        let lengths = medium.lengths().count();
        let at = (self.length as usize).min(lengths - 1);
        let len = medium.lengths().nth(at).map_or(0, |(_, len)| len);
        medium.image(len, |index, _| {
            core::array::from_fn(|sector| {
                let number = index * SECTORS as u64 + sector as u64;
                self.sectors.get(&number).copied().unwrap_or(self.rest)
            })
        })
    }
}

/// A sector in flight, as [`SimDisk::in_flight`](crate::SimDisk::in_flight) lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its number: offset divided by [`SECTOR_SIZE`].
    pub sector: u64,
    /// How many versions it has, the durable one included; some may have the same bytes.
    pub versions: u32,
    /// Whether it may become garbage.
    pub may_break: bool,
}

pub(crate) fn in_flight(medium: &Medium) -> Vec<InFlight> {
    let mut all = Vec::new();
    for (index, flight) in medium.flight() {
        for sector in (0..SECTORS).filter(|&sector| flight.has(sector)) {
            all.push(InFlight {
                sector: index * SECTORS as u64 + sector as u64,
                versions: flight.count(sector),
                may_break: flight.may_break(sector),
            });
        }
    }
    all
}

/// How a sample leans. Independent sectors alone would almost never leave all but one of many.
#[derive(Clone, Copy)]
enum Mood {
    /// Each sector on its own.
    Sectors,
    /// Each page as a whole.
    Pages,
    /// Most sectors newest.
    MostlyNewest,
    /// Most sectors oldest.
    MostlyOldest,
}

/// Draws fates.
pub(crate) struct Sampler {
    prng: Prng,
    mood: Mood,
    /// Whether sectors tear or become garbage, too. Half of all samples lose and keep only: noise
    /// is found by checksums, what is missing is not.
    breaks: bool,
}

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let mood = match prng.below(4) {
            0 => Mood::Sectors,
            1 => Mood::Pages,
            2 => Mood::MostlyNewest,
            _ => Mood::MostlyOldest,
        };
        let breaks = prng.below(2) == 0;
        Self { prng, mood, breaks }
    }

    /// The image that this sampler draws.
    pub(crate) fn apply(mut self, medium: &Medium) -> Medium {
        let at = self.length(medium);
        let len = medium.lengths().nth(at as usize).map_or(0, |(_, len)| len);
        medium.image(len, |_, flight| self.fates(flight))
    }

    /// The same as a plan.
    pub(crate) fn plan(mut self, medium: &Medium) -> CrashPlan {
        let mut plan = CrashPlan { length: self.length(medium), ..CrashPlan::oldest() };
        for (index, flight) in medium.flight() {
            for (sector, fate) in self.fates(flight).into_iter().enumerate() {
                if flight.has(sector) {
                    plan.sectors.insert(index * SECTORS as u64 + sector as u64, fate);
                }
            }
        }
        plan
    }

    fn length(&mut self, medium: &Medium) -> u32 {
        self.prng.below(medium.lengths().count() as u64) as u32
    }

    fn fates(&mut self, flight: &Flight) -> Fates {
        if let Mood::Pages = self.mood {
            let number = self.prng.below(flight.versions.len() as u64 + 1) as usize;
            let garbage = self.breaks && self.prng.below(4) == 0;
            let seed = self.prng.bits();
            return core::array::from_fn(|sector| match garbage {
                true => Fate::Garbage(seed),
                false => flight.upto(sector, number),
            });
        }
        core::array::from_fn(|sector| self.fate(flight, sector))
    }

    fn fate(&mut self, flight: &Flight, sector: usize) -> Fate {
        let usual = match self.mood {
            Mood::MostlyNewest => Some(Fate::NEWEST),
            Mood::MostlyOldest => Some(Fate::OLDEST),
            Mood::Sectors | Mood::Pages => None,
        };
        match usual {
            Some(usual) if self.prng.below(16) != 0 => usual,
            _ => self.unusual(flight.count(sector)),
        }
    }

    fn unusual(&mut self, versions: u32) -> Fate {
        let versions = u64::from(versions);
        match self.prng.below(if self.breaks { 6 } else { 4 }) {
            4 => Fate::Torn {
                head: self.prng.below(versions) as u32,
                tail: self.prng.below(versions) as u32,
                split: self.prng.below(u64::from(SECTOR_SIZE) + 1) as u16,
            },
            5 => Fate::Garbage(self.prng.bits()),
            _ => Fate::Version(self.prng.below(versions) as u32),
        }
    }
}
