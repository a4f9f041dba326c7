//! A script of changes, for the suites that make every call of the platform fail in turn, with what
//! each change should leave behind.

use allod_core::{Platform, Result, Store};

use crate::bench::{Content, pattern};

/// One change of a store.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A new empty region.
    Create(&'static str),
    /// So many bytes at the end.
    Append(&'static str, usize),
    /// So many bytes over those at an offset.
    Write(&'static str, usize, usize),
    /// The region cut to a length.
    Truncate(&'static str, usize),
    /// The region with new content of so many bytes.
    Replace(&'static str, usize),
    /// Room for so many bytes.
    Reserve(&'static str, u64),
    /// Another name.
    Rename(&'static str, &'static str),
    /// No more.
    Remove(&'static str),
    /// A flush.
    Flush,
    /// A checkpoint.
    Checkpoint,
}

/// Every kind of change and of flush, with small options in a few hundred calls of the platform.
pub const SCRIPT: &[Step] = {
    use Step::*;
    &[
        Create("a"),
        Append("a", 100),
        Flush,
        Create("b"),
        Append("b", 150_000),
        Write("a", 50, 100),
        Flush,
        Append("a", 20_000),
        Write("b", 70_000, 9000),
        Flush,
        Truncate("b", 60_001),
        Append("b", 200_000),
        Create("c"),
        Reserve("c", 30_000),
        Append("c", 8192),
        Flush,
        Rename("c", "d"),
        Remove("a"),
        Replace("b", 1_200_000),
        Flush,
        Create("a"),
        Append("a", 66_000),
        Checkpoint,
        Replace("b", 10),
        Write("d", 8000, 5000),
        Append("a", 70_000),
        Flush,
        Remove("b"),
        Append("d", 90_000),
        Truncate("a", 0),
        Flush,
        Write("d", 0, 4096),
        Checkpoint,
        Append("a", 5),
        Flush,
    ]
};

impl Step {
    /// Whether it makes something durable.
    #[must_use]
    pub fn is_flush(self) -> bool {
        matches!(self, Self::Flush | Self::Checkpoint)
    }

    /// Does it. A step about a region that is not there (its creation failed) does nothing.
    ///
    /// # Errors
    ///
    /// That of the call.
    pub fn run<P: Platform>(self, store: &Store<P>, seed: u64) -> Result<()> {
        let with = |name: &str, act: &dyn Fn(allod_core::Region<P>) -> Result<()>| {
            store.region(name).map_or(Ok(()), act)
        };
        match self {
            Self::Create(name) => store.region_or_create(name).map(drop),
            Self::Append(name, n) => with(name, &|a| a.append(&pattern(seed, n)).map(drop)),
            Self::Write(name, at, n) => {
                with(name, &|a| a.write_at((at as u64).min(a.len()?), &pattern(seed, n)))
            }
            Self::Truncate(name, n) => with(name, &|a| a.truncate((n as u64).min(a.len()?))),
            Self::Replace(name, n) => with(name, &|a| a.replace(&pattern(seed, n))),
            Self::Reserve(name, n) => with(name, &|a| a.reserve(n)),
            Self::Rename(from, to) if store.contains(to) => with(from, &|_| Ok(())),
            Self::Rename(from, to) => with(from, &|a| a.rename(to)),
            Self::Remove(name) => with(name, &|a| a.remove()),
            Self::Flush => store.flush().map(drop),
            Self::Checkpoint => store.checkpoint().map(drop),
        }
    }

    /// What it makes of a content.
    pub fn apply(self, content: &mut Content, seed: u64) {
        match self {
            Self::Create(name) => drop(content.entry(name.into()).or_default()),
            Self::Append(name, n) => {
                content.entry(name.into()).and_modify(|bytes| bytes.extend(pattern(seed, n)));
            }
            Self::Write(name, at, n) => {
                content.entry(name.into()).and_modify(|bytes| {
                    let at = at.min(bytes.len());
                    let end = (at + n).max(bytes.len());
                    bytes.resize(end, 0);
                    bytes[at..at + n].copy_from_slice(&pattern(seed, n));
                });
            }
            Self::Truncate(name, n) => {
                content.entry(name.into()).and_modify(|bytes| bytes.truncate(n));
            }
            Self::Replace(name, n) => {
                content.entry(name.into()).and_modify(|bytes| *bytes = pattern(seed, n));
            }
            Self::Rename(from, to) => {
                if !content.contains_key(to) {
                    if let Some(bytes) = content.remove(from) {
                        content.insert(to.into(), bytes);
                    }
                }
            }
            Self::Remove(name) => drop(content.remove(name)),
            Self::Reserve(..) | Self::Flush | Self::Checkpoint => {}
        }
    }
}
