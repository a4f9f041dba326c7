//! What a disk does wrong although nobody cut the power: [`DiskFault`].

use alloc::vec::Vec;

use crate::medium::Persisted;
use crate::prng::mix;

/// A fault of a [`SimDisk`](crate::SimDisk), given with [`inject`](crate::SimDisk::inject).
///
/// `nth` counts calls of the kind concerned from the moment of the injection: 1, and 0 too, is the
/// next one. `write_sync` counts as a write and as a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFault {
    /// The `nth` sync fails, once, and afterwards the cache looks clean, as operating systems leave
    /// it: reads see the new bytes, the disk has what `persisted` says, and no later sync writes
    /// the rest, until somebody changes those pages again. A `write_sync` that fails loses only
    /// its own sectors.
    FailSync {
        /// Which sync.
        nth: u64,
        /// What the disk has of it.
        persisted: Persisted,
    },
    /// From the `nth` sync on, `count` syncs answer that all is well without making durable more
    /// than `persisted` says; the rest stays in flight, in the memory of a device that lies. A
    /// later sync that keeps its word makes it durable.
    LieAboutSync {
        /// The first of them.
        nth: u64,
        /// How many; `u64::MAX` for all.
        count: u64,
        /// What becomes durable.
        persisted: Persisted,
    },
    /// One bit is flipped at once, where it is durable, in the cache, and in each version in
    /// flight. Without effect at or past the length.
    FlipBit {
        /// The byte.
        offset: u64,
        /// Which of its bits, modulo 8.
        bit: u8,
    },
    /// The bytes of the `nth` write land in another page, at the same place inside it; those that
    /// would pass the length are lost. The length grows as it should.
    MisdirectWrite {
        /// Which write.
        nth: u64,
        /// The page where the bytes go instead.
        page: u64,
    },
    /// The `nth` read gives the bytes of another page, from the same place inside it on; zeros past
    /// the length.
    MisdirectRead {
        /// Which read.
        nth: u64,
        /// The page where the bytes come from instead.
        page: u64,
    },
}

/// What a sync does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncFault {
    Fails(Persisted),
    Lies(Persisted),
}

/// The faults that wait for their call.
#[derive(Default)]
pub(crate) struct Faults(Vec<DiskFault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: DiskFault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of the sync that happens now; a failure before a lie, the older before the newer.
    pub(crate) fn sync(&mut self) -> Option<SyncFault> {
        let mut fails = None;
        let mut lies = None;
        self.0.retain_mut(|fault| match fault {
            DiskFault::FailSync { nth, persisted } => {
                let now = due(nth);
                if now {
                    fails = fails.or(Some(SyncFault::Fails(*persisted)));
                }
                !now
            }
            DiskFault::LieAboutSync { nth, count, persisted } => {
                if !due(nth) {
                    return true;
                }
                *count = count.saturating_sub(1);
                let each = match *persisted {
                    Persisted::Sample(seed) => Persisted::Sample(mix(seed, *count)),
                    other => other,
                };
                lies = lies.or(Some(SyncFault::Lies(each)));
                *count > 0
            }
            _ => true,
        });
        fails.or(lies)
    }

    /// The page that the write which happens now goes to by mistake.
    pub(crate) fn write(&mut self) -> Option<u64> {
        self.misdirected(|fault| match fault {
            DiskFault::MisdirectWrite { nth, page } => Some((nth, *page)),
            _ => None,
        })
    }

    /// The page that the read which happens now comes from by mistake.
    pub(crate) fn read(&mut self) -> Option<u64> {
        self.misdirected(|fault| match fault {
            DiskFault::MisdirectRead { nth, page } => Some((nth, *page)),
            _ => None,
        })
    }

    fn misdirected(
        &mut self,
        mut concerned: impl FnMut(&mut DiskFault) -> Option<(&mut u64, u64)>,
    ) -> Option<u64> {
        let mut found = None;
        self.0.retain_mut(|fault| {
            let Some((nth, page)) = concerned(fault) else { return true };
            let now = due(nth);
            if now {
                found = found.or(Some(page));
            }
            !now
        });
        found
    }
}

/// Counts one call down and answers whether it is the one meant.
fn due(nth: &mut u64) -> bool {
    *nth = nth.saturating_sub(1);
    *nth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fires_at_its_call() {
        let mut faults = Faults::default();
        faults.add(DiskFault::FailSync { nth: 2, persisted: Persisted::Nothing });
        faults.add(DiskFault::LieAboutSync { nth: 1, count: 3, persisted: Persisted::Everything });
        faults.add(DiskFault::MisdirectWrite { nth: 0, page: 7 });
        let lie = Some(SyncFault::Lies(Persisted::Everything));
        assert_eq!(faults.sync(), lie);
        assert_eq!(faults.sync(), Some(SyncFault::Fails(Persisted::Nothing)));
        assert_eq!(faults.sync(), lie);
        assert_eq!(faults.sync(), None);
        assert_eq!(faults.read(), None);
        assert_eq!(faults.write(), Some(7));
        assert_eq!(faults.write(), None);
        assert!(faults.0.is_empty());
    }
}
