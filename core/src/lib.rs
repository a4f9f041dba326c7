//! The heart of allod: named regions of bytes on a [`Platform`], and one call, [`Store::flush`],
//! that moves all of them from one consistent state to the next.
//!
//! What this crate is: the layout of regions and holes, the journal, recovery, snapshots for
//! readers, compaction. `no_std` with `alloc`; generic over the machine below.
//!
//! What it is not: it opens no files (the platforms do), runs no threads, has no clock, and knows
//! nothing of keys or transactions. Most programs use it through the crate `allod`.
//!
//! # Invariants
//!
//! The code and its tests cite the invariants I1 to I13, the promises, and the rules P1 to P5, F1 to
//! F8 and R1 to R6 by number. `DESIGN.md` at the root of the repository states them.
#![no_std]
#![warn(clippy::indexing_slicing)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod platform;

mod appender;
mod base;
mod capture;
mod checkpoint;
mod codec;
mod compact;
mod copy;
mod epoch;
mod error;
mod extent;
mod flush;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod ground;
mod holes;
mod journal;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub mod mutant;
mod options;
mod page_map;
mod put;
mod reader;
mod recovery;
mod region;
mod relocate;
mod run;
mod slots;
mod space;
mod spill;
mod state;
mod store;
mod superblock;
mod table;
mod tail;
mod usage;
mod verify;

pub use appender::Appender;
pub use compact::{CompactProgress, Compaction};
pub use epoch::Hold;
pub use error::{Damage, Error, PlatformError, PlatformErrorKind, Result};
pub use flush::{Durability, FlushReport};
pub use options::{Create, Options};
pub use platform::{Capabilities, Mapping, NoMapping, Platform};
#[cfg(feature = "std")]
pub use reader::Cursor;
pub use reader::{Chunks, Reader};
pub use region::Region;
pub use store::{RegionInfo, Store};
pub use usage::{DiskUsage, Stats};
pub use verify::{Finding, Verification};
