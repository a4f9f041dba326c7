//! allod in plain memory, a simulated disk with every fault we know, and platforms that wrap
//! another one.
//!
//! | | |
//! |---|---|
//! | [`MemPlatform`] | plain memory: sparse, clonable, cheap snapshots; no mapping |
//! | [`MappedMem`] | plain memory of a fixed capacity that maps, for the zero-copy reading path |
//! | [`SimDisk`] | a disk that remembers what is not durable yet, crashes, and fails as disks do |
//! | [`Fault`] | makes calls of another platform fail, by plan or by chance |
//! | [`Trace`] | tells a sink of every call of another platform |
//! | [`Stats`] | counts calls, failures and bytes of another platform |
//!
//! All of it is `no_std` with `alloc`. The feature `std` replaces spinning locks by ones that give
//! way to other threads; without it, use these platforms from one thread at a time, or from few.
//!
//! # What it is not
//!
//! Nothing here survives the process, and nothing here is fast for its own sake: the simulated disk
//! is for tests, the store's own and yours.
//!
//! # Memory
//!
//! Where the machine has no memory left, the allocator of the program decides what happens (by
//! default it ends the program), except where a function says that it answers an error. Give
//! [`MemPlatform`] or [`SimDisk`] a capacity to have an error instead.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod crash;
mod disk;
mod disk_fault;
mod fault;
mod flight;
mod images;
mod locks;
mod mapped;
mod medium;
mod mem;
mod operation;
mod pages;
mod prng;
mod stats;
mod trace;
mod watch;

pub use crash::{CrashPlan, InFlight};
pub use disk::{Observer, SimDisk};
pub use disk_fault::DiskFault;
pub use fault::{Fault, FaultHandle, FaultRule, Part, When};
pub use flight::{Fate, SECTOR_SIZE};
pub use images::{Grain, Images};
pub use locks::{RawMutex, RawRwLock};
pub use mapped::{MappedMem, MappedView};
pub use medium::Persisted;
pub use mem::MemPlatform;
pub use operation::{Operation, OperationKind, OperationSet};
pub use pages::PAGE_SIZE;
pub use stats::{Count, Counts, Stats, StatsHandle};
pub use trace::{Call, Trace, TraceLog, TraceSink};
pub use watch::Answer;
