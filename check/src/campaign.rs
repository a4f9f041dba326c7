//! A campaign: many histories, one after the other or in several threads, and what came of them.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::coverage::Coverage;
use crate::effort::Effort;
use crate::history::History;
use crate::life::{Violation, run};

/// What came of many histories.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// What they reached.
    pub coverage: Coverage,
    /// How many ran into a violation.
    pub violations: u64,
    /// Mutants that were caught, and that were tried.
    pub caught: u64,
    /// See [`caught`](Self::caught).
    pub mutants: u64,
}

impl Totals {
    /// Whether nothing is wrong with the store, and nothing with the checker.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations == 0 && self.caught == self.mutants
    }

    /// Adds what came of others.
    pub fn add(&mut self, other: &Self) {
        self.coverage.add(&other.coverage);
        self.violations += other.violations;
        self.caught += other.caught;
        self.mutants += other.mutants;
    }
}

impl fmt::Display for Totals {
    /// The last line of every run of the program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Coverage { states, histories, .. } = self.coverage;
        let Self { violations, caught, mutants, .. } = self;
        write!(
            f,
            "states {states}, histories {histories}, violations {violations}, \
             mutants caught {caught} of {mutants}"
        )
    }
}

/// Runs histories until there are no more, `stop` says so, or there were three violations; tells
/// `found` of each violation.
pub fn campaign(
    histories: impl IntoIterator<Item = History>,
    effort: impl Fn(&History) -> Effort,
    mut stop: impl FnMut(&Totals) -> bool,
    mut found: impl FnMut(&History, &Violation),
) -> Totals {
    let mut totals = Totals::default();
    for history in histories {
        if stop(&totals) {
            break;
        }
        let outcome = run(&history, &effort(&history));
        totals.coverage.add(&outcome.coverage);
        if let Some(violation) = outcome.violation {
            totals.violations += 1;
            found(&history, &violation);
            if totals.violations >= 3 {
                break;
            }
        }
    }
    totals
}

/// Runs the random histories of the seeds from `from` on in so many threads, until `stop` says so
/// (it is asked after every history, with the totals so far), or there were three violations. Every
/// `grow` histories, they become longer.
pub fn random_campaign(
    threads: usize,
    from: u64,
    grow: u64,
    effort: &Effort,
    stop: impl Fn(&Totals) -> bool + Sync,
    found: impl Fn(&History, &Violation) + Sync,
) -> Totals {
    let next = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while !ended.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let longer = number.checked_div(grow).unwrap_or(0).min(20);
            let history = crate::random(from + number + (longer << 32));
            let outcome = run(&history, effort);
            if let Some(violation) = &outcome.violation {
                found(&history, violation);
            }
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.coverage.add(&outcome.coverage);
            totals.violations += u64::from(outcome.violation.is_some());
            if totals.violations >= 3 || stop(&totals) {
                ended.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}
