//! What the tests with real processes and real disks share: a store at work whose state is known at
//! every moment, test binaries run again as other processes, and file systems mounted for a while.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

mod ledger;
mod mount;
mod process;
mod work;

pub use ledger::Ledger;
pub use mount::Mount;
pub use process::{Report, child, child_argument, is_root, skip};
pub use work::{Random, Work, digest};

pub type TestResult = Result<(), Box<dyn std::error::Error>>;
