//! The suite on files.
#![cfg(unix)]

use std::path::PathBuf;
use std::sync::Arc;

use allod_core::PlatformError;
use allod_suite::bench::Bench;
use allod_unix::{Access, UnixPlatform};
use tempfile::TempDir;

#[derive(Clone)]
struct Unix(Arc<TempDir>);

impl Unix {
    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Bench for Unix {
    type Platform = UnixPlatform;
    const MAPS: bool = true;
    const LOCKS: bool = true;
    const STRIDE: usize = 37;

    fn fresh() -> Self {
        Self(Arc::new(tempfile::tempdir().expect("a directory")))
    }
    fn seeded(_seed: u64) -> Option<Self> {
        None
    }
    fn holding(bytes: &[u8]) -> Self {
        let bench = Self::fresh();
        std::fs::write(bench.path(), bytes).expect("writing a file");
        bench
    }
    fn open(&self) -> Result<UnixPlatform, PlatformError> {
        UnixPlatform::open(self.path(), Access::OpenOrCreate)
    }
    fn open_read_only(&self) -> Option<UnixPlatform> {
        Some(UnixPlatform::open(self.path(), Access::ReadOnly).expect("opening for reading"))
    }
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap_or_default()
    }
}

allod_suite::suite!(Unix);
allod_suite::thread_suite!(Unix);
