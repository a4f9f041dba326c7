//! The suite on the simulated disk, whose copies are what a process that dies leaves behind.

use allod_core::PlatformError;
use allod_mem::SimDisk;
use allod_suite::bench::Bench;

#[derive(Clone)]
struct Sim(SimDisk);

impl Bench for Sim {
    type Platform = SimDisk;
    const MAPS: bool = false;
    const LOCKS: bool = false;
    const STRIDE: usize = 7;

    fn fresh() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(SimDisk::new(NEXT.fetch_add(1, Ordering::Relaxed)))
    }
    fn seeded(seed: u64) -> Option<Self> {
        Some(Self(SimDisk::new(seed)))
    }
    fn holding(bytes: &[u8]) -> Self {
        Self(SimDisk::from_bytes(0, bytes))
    }
    fn open(&self) -> Result<SimDisk, PlatformError> {
        Ok(self.0.clone())
    }
    fn open_read_only(&self) -> Option<SimDisk> {
        None
    }
    fn bytes(&self) -> Vec<u8> {
        self.0.to_bytes().expect("memory for a copy")
    }
    fn copy(&self) -> Self {
        Self(self.0.kill())
    }
}

allod_suite::suite!(Sim);
allod_suite::thread_suite!(Sim);

#[test]
fn a_limit_of_space_loses_nothing() {
    let limits = (0..60).map(|i| i * 70_000);
    allod_suite::failing::within(limits, |limit| {
        let disk = SimDisk::new(limit);
        disk.set_capacity(Some(limit));
        Sim(disk)
    });
}
