//! A history: how the store is set up, and the steps. It has a text form.

use std::fmt;
use std::str::FromStr;

use allod_core::Options;

use crate::rig::Lie;
use crate::step::{ParseError, Step};

/// How the store of a history is set up. Small numbers make everything wrap quickly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// The journal's size, in pages.
    pub journal_pages: u16,
    /// The inline limit, in units of 1 KiB.
    pub inline_kib: u16,
    /// The memory budget, in units of 1 KiB.
    pub budget_kib: u16,
    /// How the machine lies; not in the text form.
    pub lie: Lie,
}

impl Default for Setting {
    fn default() -> Self {
        Self { journal_pages: 6, inline_kib: 9, budget_kib: 16, lie: Lie::None }
    }
}

impl Setting {
    pub(crate) fn options(&self) -> Options {
        Options::new()
            .journal_size(u64::from(self.journal_pages) * 4096)
            .inline_limit(u64::from(self.inline_kib) << 10)
            .memory_budget(usize::from(self.budget_kib) << 10)
    }
}

/// A history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The seed of the disk.
    pub seed: u64,
    /// How the store is set up.
    pub setting: Setting,
    /// What happens.
    pub steps: Vec<Step>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { journal_pages, inline_kib, budget_kib, .. } = self.setting;
        write!(f, "{}:{journal_pages}:{inline_kib}:{budget_kib}", self.seed)?;
        for step in &self.steps {
            write!(f, " {step}")?;
        }
        Ok(())
    }
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = text.split_whitespace();
        let head = words.next().unwrap_or_default();
        let wrong = || ParseError { word: head.into() };
        let numbers: Vec<u64> = head
            .split(':')
            .map(|number| number.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let [seed, journal, inline, budget] = numbers[..] else { return Err(wrong()) };
        let small = |number: u64| u16::try_from(number).map_err(|_| wrong());
        Ok(Self {
            seed,
            setting: Setting {
                journal_pages: small(journal)?,
                inline_kib: small(inline)?,
                budget_kib: small(budget)?,
                lie: Lie::None,
            },
            steps: words.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}
