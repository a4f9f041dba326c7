//! The crash checker of allod.
#![doc = ""]

use std::cell::RefCell;

mod coverage;
mod exhaustive;
mod generate;
mod history;
mod images;
mod life;
mod locks;
mod oracle;
mod prng;
mod rig;
mod shrink;
mod step;

pub use coverage::Coverage;
pub use exhaustive::all;
pub use generate::random;
pub use history::{History, Setting};
pub use life::{Effort, Outcome, Violation, run};
pub use locks::{RawMutex, RawRwLock};
pub use rig::{Lie, Rig};
pub use shrink::shrink;
pub use step::{Image, Kept, Op, ParseError, Step};

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics from being printed in this process: the checker catches those of the store, and
/// reports them with the place that this notes.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!("({}:{})", at.file(), at.line()));
        LAST_PANIC.with(|last| *last.borrow_mut() = place);
    }));
}

fn last_panic() -> Option<String> {
    LAST_PANIC.with(|last| last.borrow_mut().take())
}
