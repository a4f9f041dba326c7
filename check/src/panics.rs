//! Panics of the code under test: caught, and told with the place where they happened.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics that the checker catches from being printed, in this process; it reports them as
/// violations, with the place. Other panics are printed as before.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CATCHING.get() == 0 {
                return usual(info);
            }
            let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
            PLACE.set(place);
        }));
    });
}

/// Does something, and answers what a panic says if it panics.
pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    CATCHING.set(CATCHING.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(CATCHING.get() - 1);
    done.map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
    let place = PLACE.take().unwrap_or_default();
    format!("panic: {text}{place}")
}
