//! The suite on plain memory, which does not map.

use allod_core::{Platform, PlatformError};
use allod_mem::MemPlatform;
use allod_suite::bench::Bench;

#[derive(Clone)]
struct Mem(MemPlatform);

impl Bench for Mem {
    type Platform = MemPlatform;
    const MAPS: bool = false;
    const LOCKS: bool = false;
    const STRIDE: usize = 1;

    fn fresh() -> Self {
        Self(MemPlatform::new())
    }
    fn seeded(seed: u64) -> Option<Self> {
        Some(Self(MemPlatform::new().with_entropy(seed)))
    }
    fn holding(bytes: &[u8]) -> Self {
        Self(MemPlatform::from_bytes(bytes))
    }
    fn open(&self) -> Result<MemPlatform, PlatformError> {
        Ok(self.0.clone())
    }
    fn open_read_only(&self) -> Option<MemPlatform> {
        None
    }
    fn bytes(&self) -> Vec<u8> {
        self.0.to_bytes().expect("memory for a copy")
    }
    fn copy(&self) -> Self {
        Self(self.0.snapshot())
    }
}

allod_suite::suite!(Mem);
allod_suite::thread_suite!(Mem);

#[test]
fn a_limit_of_space_loses_nothing() {
    let limits = (0..60).map(|i| i * 70_000);
    allod_suite::failing::within(limits, |limit| Mem(MemPlatform::with_capacity_limit(limit)));
}

#[test]
fn memory_is_taken_only_for_pages_that_are_written() {
    let bench = Mem::fresh();
    let store = allod_suite::bench::store(&bench);
    let region = store.create_region("a").expect("creating");
    region.reserve(1 << 40).expect("room costs nothing");
    region.append(b"x").expect("appending");
    store.flush().expect("flushing");
    let taken = bench.0.allocated().expect("asking").expect("memory can tell");
    assert!(taken < 1 << 20, "{taken} bytes");
}
