//! The slab of regions: one small slot for each, reached by index without a lock.
//!
//! Slots live in buckets of doubling size that are never moved or freed while the store lives, so a
//! handle is an index, a lookup is two loads, and a region at rest costs one slot, not an
//! allocation. What is *in* a slot is guarded by the slot's own mutex.

use alloc::boxed::Box;
use alloc::vec::Vec;

use lock_api::Mutex;

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::state::State;

/// A region's state behind its lock.
pub(crate) type Slot<P> = Mutex<<P as Platform>::RawMutex, State<P>>;

/// The first bucket has `1 << FIRST_BITS` slots, each further one twice as many.
const FIRST_BITS: u32 = 6;
const BUCKETS: usize = 26;
/// How many regions a store can have at one time: 2^32 - 64 would be the end of an index.
pub(crate) const MAX_REGIONS: u64 = ((1u64 << BUCKETS) - 1) << FIRST_BITS;

pub(crate) struct Slots<P: Platform> {
    buckets: [spin::Once<Box<[Slot<P>]>>; BUCKETS],
}

/// The bucket of an index, and the place in it.
fn locate(index: u32) -> (usize, usize) {
    let shifted = u64::from(index) + (1 << FIRST_BITS);
    let bucket = 63 - shifted.leading_zeros() - FIRST_BITS;
    (bucket as usize, (shifted - (1u64 << (bucket + FIRST_BITS))) as usize)
}

impl<P: Platform> Slots<P> {
    pub(crate) fn new() -> Self {
        Self { buckets: [const { spin::Once::new() }; BUCKETS] }
    }

    /// Makes sure that the slot exists. Called with the table locked for writing, so that two
    /// threads never wait for each other here.
    pub(crate) fn ensure(&self, index: u32) -> Result<()> {
        let (bucket, _) = locate(index);
        let Some(once) = self.buckets.get(bucket) else {
            return Err(Error::TooLarge {
                what: "regions in one store",
                requested: u64::from(index) + 1,
                limit: MAX_REGIONS,
            });
        };
        if once.is_completed() {
            return Ok(());
        }
        let count = 1usize << (bucket as u32 + FIRST_BITS);
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory { requested: (count * size_of::<Slot<P>>()) as u64 })?;
        slots.resize_with(count, || Mutex::new(State::vacant()));
        once.call_once(|| slots.into_boxed_slice());
        Ok(())
    }

    /// The slot of an index that [`ensure`](Self::ensure) was called for.
    pub(crate) fn get(&self, index: u32) -> Option<&Slot<P>> {
        let (bucket, place) = locate(index);
        self.buckets.get(bucket)?.get()?.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(locate(index), expected);
            expected.1 += 1;
            if expected.1 == 64 << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(locate((MAX_REGIONS - 1) as u32).0 < BUCKETS);
    }
}
