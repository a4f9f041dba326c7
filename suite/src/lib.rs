//! The test suites of the store. Each test is a function generic over a [`Bench`](bench::Bench), so
//! that one suite runs on every platform; `tests/` has one file for each. The names of the tests
//! say what the store does.
//!
//! What it is not: a search for the unforeseen. Random histories are in the tests of `allod-core`,
//! and every crash image of a simulated disk is the business of the crash checker.
//!
//! To run it on one more platform, implement [`Bench`](bench::Bench) in a file of `tests/`, and call
//! `allod_suite::suite!(TheBench)` there, and `allod_suite::thread_suite!(TheBench)` where there are
//! threads.

#![allow(clippy::unwrap_used, reason = "a call that fails where it must not is a failed test")]
#![allow(clippy::missing_panics_doc, reason = "to panic is what a failed test does")]
#![allow(missing_docs, reason = "the name of a test is what it says")]

pub mod bench;
pub mod compacting;
pub mod creating;
pub mod damaging;
pub mod failing;
pub mod flushing;
mod list;
pub mod placing;
pub mod reading;
pub mod refusing;
pub mod renaming;
pub mod script;
pub mod threads;
pub mod truncating;
pub mod writing;
