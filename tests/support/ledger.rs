//! What a store promised: the state that was acknowledged last, and the ones that a flush was under
//! way to since. These, and no others, may be found when it is opened again.

use std::fmt;

/// States are known by their [digests](super::digest).
#[derive(Clone, Debug)]
pub struct Ledger {
    acknowledged: u64,
    under_way: Vec<u64>,
}

impl Ledger {
    pub fn new(state: u64) -> Self {
        Self { acknowledged: state, under_way: Vec::new() }
    }

    /// A flush to this state begins.
    pub fn begin(&mut self, state: u64) {
        self.under_way.push(state);
    }

    /// A flush to this state returned.
    pub fn acknowledge(&mut self, state: u64) {
        self.acknowledged = state;
        self.under_way.clear();
    }

    /// Fails unless the state is one that may be found.
    #[track_caller]
    pub fn check(&self, found: u64, what: impl fmt::Display) {
        assert!(
            found == self.acknowledged || self.under_way.contains(&found),
            "{what}: found {found:016x}, which is neither the acknowledged state {:016x} nor one \
             of those under way, {:016x?}",
            self.acknowledged,
            self.under_way
        );
    }
}
