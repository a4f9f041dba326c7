//! The hunt for mutants: stores with one rule dropped, each of which the checker must catch.

use std::ops::Range;

use allod_core::mutant::{Mutant, activate};

use crate::directed::{DIRECTED, Directed};
use crate::effort::Effort;
use crate::history::History;
use crate::life::{Violation, run};
use crate::{Coverage, random};

/// Mutants that no crash image can tell from the store itself, each with the reason.
pub const ELSEWHERE: &[(Mutant, &str)] = &[
    (
        Mutant::MixedCut,
        "needs two threads between the cut and the visit of a region, where there is no call to \
         the platform; the schedules of `schedules/tests/mutants.rs` catch it",
    ),
    (
        Mutant::NoSequence,
        "in a crash image, a page of the journal holds the batch of one number, or one of another \
         salt (I1, R6): the number is a second fence; `core/src/journal/tests.rs` tests it",
    ),
];

/// How a mutant was caught.
#[derive(Clone, Debug)]
pub struct Catch {
    /// How many histories it took.
    pub histories: u64,
    /// The directed history that caught it, if it was not a random one.
    pub directed: Option<&'static str>,
    /// The history.
    pub history: History,
    /// What it ran into.
    pub violation: Violation,
}

/// How a mutant is hunted.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// So many random histories first, from seed 0 on; then the directed ones.
    pub first: u64,
    /// So many random ones in all.
    pub limit: u64,
    /// How closely each of these is looked at.
    pub effort: Effort,
}

impl Default for Hunt {
    fn default() -> Self {
        Self { first: 100, limit: 3000, effort: Effort::default() }
    }
}

impl Hunt {
    /// Hunts one mutant. It is active in the whole process meanwhile: no other store may be used.
    ///
    /// Answers how it was caught, or `None` if it was not; adds to `coverage` what was tried.
    pub fn hunt(&self, mutant: Mutant, coverage: &mut Coverage) -> Option<Catch> {
        let caught = self.search(mutant, coverage);
        activate(None);
        caught
    }

    fn search(&self, mutant: Mutant, coverage: &mut Coverage) -> Option<Catch> {
        let seeds = |range: Range<u64>| range.map(|seed| (None, random(seed)));
        let directed = DIRECTED.iter().flat_map(|directed| {
            directed.histories().into_iter().map(move |history| (Some(directed), history))
        });
        let first = self.first.min(self.limit);
        let all = seeds(0..first).chain(directed).chain(seeds(first..self.limit));
        for (number, (directed, history)) in (1..).zip(all) {
            let effort = directed.map_or(self.effort, Directed::effort);
            activate(Some(mutant));
            let outcome = run(&history, &effort);
            coverage.add(&outcome.coverage);
            let Some(violation) = outcome.violation else { continue };
            // What the store itself runs into says nothing about the mutant.
            activate(None);
            if run(&history, &effort).violation.is_none() {
                let directed = directed.map(|directed| directed.name);
                return Some(Catch { histories: number, directed, history, violation });
            }
        }
        None
    }
}

/// The mutants that the checker must catch.
pub fn huntable() -> impl Iterator<Item = Mutant> {
    let elsewhere = |mutant: &Mutant| ELSEWHERE.iter().any(|(other, _)| other == mutant);
    Mutant::ALL.iter().copied().filter(move |mutant| !elsewhere(mutant))
}
