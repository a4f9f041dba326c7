//! The platform that the checker gives to stores: a [`SimDisk`] behind locks that cannot wait, and,
//! to check the checker, a machine that breaks its word.

use allod_core::PlatformError;
use allod_core::platform::{Capabilities, NoMapping, Platform};
use allod_mem::SimDisk;

use crate::locks::{RawMutex, RawRwLock};

/// How a machine breaks the contract of [`Platform`], once the store is made; to see that the
/// checker notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lie {
    /// It keeps its word.
    #[default]
    None,
    /// `sync` does nothing. `write_sync` keeps its word.
    NoSync,
    /// `write_sync` only writes. `sync` keeps its word.
    NoWriteSync,
    /// Neither makes anything durable.
    Neither,
}

/// A simulated disk as a store of the checker sees it.
#[derive(Clone, Debug)]
pub struct Rig {
    disk: SimDisk,
    lie: Lie,
}

impl Rig {
    /// The disk behind locks that cannot wait.
    #[must_use]
    pub fn new(disk: SimDisk, lie: Lie) -> Self {
        Self { disk, lie }
    }
}

impl Platform for Rig {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;
    type Mapping = NoMapping;

    fn capabilities(&self) -> Capabilities {
        self.disk.capabilities()
    }

    fn len(&self) -> Result<u64, PlatformError> {
        self.disk.len()
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.disk.grow(len)
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.disk.cut(len)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        self.disk.read(offset, buf)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.disk.write(offset, bytes)
    }

    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        match self.lie {
            Lie::NoWriteSync | Lie::Neither => self.disk.write(offset, bytes),
            _ => self.disk.write_sync(offset, bytes),
        }
    }

    fn sync(&self) -> Result<(), PlatformError> {
        match self.lie {
            Lie::NoSync | Lie::Neither => Ok(()),
            _ => self.disk.sync(),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        self.disk.punch(offset, len)
    }

    fn map(&self, _len: u64) -> Result<Option<NoMapping>, PlatformError> {
        Ok(None)
    }

    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        self.disk.allocated()
    }

    fn entropy(&self) -> Result<u128, PlatformError> {
        self.disk.entropy()
    }
}
