//! The suite on memory that maps.

use allod_core::PlatformError;
use allod_mem::MappedMem;
use allod_suite::bench::Bench;

#[derive(Clone)]
struct Mapped(MappedMem);

const CAPACITY: usize = 64 << 20;

impl Bench for Mapped {
    type Platform = MappedMem;
    const MAPS: bool = true;
    const LOCKS: bool = false;
    const STRIDE: usize = 37;

    fn fresh() -> Self {
        Self(MappedMem::new(CAPACITY).expect("memory"))
    }
    fn seeded(seed: u64) -> Option<Self> {
        Some(Self(MappedMem::new(CAPACITY).expect("memory").with_entropy(seed)))
    }
    fn open(&self) -> Result<MappedMem, PlatformError> {
        Ok(self.0.clone())
    }
    fn open_read_only(&self) -> Option<MappedMem> {
        None
    }
    fn bytes(&self) -> Vec<u8> {
        self.0.to_bytes().expect("memory for a copy")
    }
}

allod_suite::suite!(Mapped);
allod_suite::thread_suite!(Mapped);

#[test]
fn a_limit_of_space_loses_nothing() {
    let limits = (0..40).map(|i| i * 400_000);
    allod_suite::failing::within(limits, |limit| {
        Mapped(MappedMem::new(limit as usize).expect("memory"))
    });
}
