//! The crash checker of allod: histories, every crash image, an oracle, and mutants.
//!
//! A store must come back whole from every crash. This crate is how that is known:
//!
//! * A **history** ([`History`]) is a list of operations on a store on a simulated disk
//!   ([`SimDisk`](allod_mem::SimDisk)): changes of regions, flushes of every kind, compactions,
//!   readers that are kept, and disasters: power cuts, deaths of the process, failed syncs, full
//!   disks, as many as one likes. Operations also happen *inside* a flush, between its calls.
//! * At **every call** of the store to the disk, the crash images of that moment are looked at: all
//!   of them if they are few, else some by lot. On each a store is opened.
//! * The **oracle** is a map of byte vectors. What is recovered must be the state of the last flush
//!   that was acknowledged, or of the one under way: names, ids, lengths, every byte; regions, holes
//!   and metadata must divide the file; `verify` must be clean; recovery must write nothing and
//!   give the same twice. On some images work goes on, until more crashes.
//! * A violation is **shrunk** ([`shrink()`]) and printed as a text that [`History`] reads back.
//! * **Mutants** are stores with one rule dropped each. A checker that does not catch every one of
//!   them proves nothing, so it has to ([`Hunt`]).
//!
//! What is assumed of the medium, what was tried, and what is not covered is in
//! `docs/crash-safety.md`.
//!
//! # The program
//!
//! ```text
//! cargo run --release -p allod-check -- smoke              # about half a minute, everything once
//! cargo run --release -p allod-check -- long --seconds 1800
//! cargo run --release -p allod-check -- mutants            # each with what it took
//! cargo run --release -p allod-check -- replay 4711        # a seed
//! cargo run --release -p allod-check -- replay 1:4:9:0 append:0:100 cut-in:2:oldest flush
//! ```
//!
//! It fails if there is a violation, if a mutant escapes, or if a smoke run did not reach one of the
//! rare branches that [`Coverage`] counts. The last line is
//! `states N, histories N, violations N, mutants caught N of N`.
//!
//! # For code of your own
//!
//! [`Checker`] crashes any closure that works on a store and asks another about what is recovered.
//! Take `default-features = false`: the mutants are of no use there.
//!
//! # What it is not
//!
//! No proof: random search finds what it finds. It runs a store in one thread; what threads do to
//! each other is looked at by the schedules under `schedules/`. And it crashes a simulated disk: the
//! machine's own are as good as what is assumed of them.

mod campaign;
mod checker;
mod coverage;
mod directed;
mod effort;
mod exhaustive;
mod flushing;
mod generate;
mod history;
#[cfg(feature = "mutants")]
mod hunt;
mod images;
mod judge;
mod life;
mod locks;
mod operate;
mod oracle;
mod panics;
mod prng;
mod rig;
mod shrink;
mod step;
mod watch;

pub use campaign::{Totals, campaign, random_campaign};
pub use checker::{Broken, Checker, Report};
pub use coverage::Coverage;
pub use directed::{DIRECTED, Directed};
pub use effort::{Depth, Effort};
pub use exhaustive::all;
pub use generate::random;
pub use history::{History, Setting};
#[cfg(feature = "mutants")]
pub use hunt::{Catch, ELSEWHERE, Hunt, huntable};
pub use life::{Outcome, Violation, run};
pub use locks::{RawMutex, RawRwLock};
pub use panics::quiet_panics;
pub use rig::{Lie, Rig};
pub use shrink::shrink;
pub use step::{Image, Kept, Op, ParseError, Step};
