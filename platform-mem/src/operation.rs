//! The calls of a platform as values: what an observer, a trace, a plan of faults and a count speak
//! of.

use core::fmt;

/// One call of a platform with its arguments, without the bytes. In bytes throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `len()`, and `is_empty()` too.
    Len,
    /// `grow(len)`.
    Grow {
        /// The length asked for.
        len: u64,
    },
    /// `cut(len)`.
    Cut {
        /// The length asked for.
        len: u64,
    },
    /// `read(offset, buf)`.
    Read {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `write(offset, bytes)`.
    Write {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `write_sync(offset, bytes)`.
    WriteSync {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `sync()`.
    Sync,
    /// `punch(offset, len)`.
    Punch {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `map(len)`.
    Map {
        /// How many bytes at least.
        len: u64,
    },
    /// `allocated()`.
    Allocated,
    /// `entropy()`.
    Entropy,
}

/// What an [`Operation`] does, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is a method of `Platform`")]
pub enum OperationKind {
    Len,
    Grow,
    Cut,
    Read,
    Write,
    WriteSync,
    Sync,
    Punch,
    Map,
    Allocated,
    Entropy,
}

/// A set of kinds of operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationSet(u16);

impl Operation {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Len => OperationKind::Len,
            Self::Grow { .. } => OperationKind::Grow,
            Self::Cut { .. } => OperationKind::Cut,
            Self::Read { .. } => OperationKind::Read,
            Self::Write { .. } => OperationKind::Write,
            Self::WriteSync { .. } => OperationKind::WriteSync,
            Self::Sync => OperationKind::Sync,
            Self::Punch { .. } => OperationKind::Punch,
            Self::Map { .. } => OperationKind::Map,
            Self::Allocated => OperationKind::Allocated,
            Self::Entropy => OperationKind::Entropy,
        }
    }

    /// Offset and length, of the operations that are about a range.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Read { offset, len }
            | Self::Write { offset, len }
            | Self::WriteSync { offset, len }
            | Self::Punch { offset, len } => Some((offset, len)),
            _ => None,
        }
    }
}

/// As in a trace: `write 4096+512`, `grow 65536`, `sync`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        match *self {
            Self::Grow { len } | Self::Cut { len } | Self::Map { len } => write!(f, " {len}"),
            _ => match self.range() {
                Some((offset, len)) => write!(f, " {offset}+{len}"),
                None => Ok(()),
            },
        }
    }
}

impl OperationKind {
    /// All kinds, in the order of the enumeration.
    pub const ALL: [Self; 11] = [
        Self::Len,
        Self::Grow,
        Self::Cut,
        Self::Read,
        Self::Write,
        Self::WriteSync,
        Self::Sync,
        Self::Punch,
        Self::Map,
        Self::Allocated,
        Self::Entropy,
    ];

    /// The name of the method.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Len => "len",
            Self::Grow => "grow",
            Self::Cut => "cut",
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteSync => "write_sync",
            Self::Sync => "sync",
            Self::Punch => "punch",
            Self::Map => "map",
            Self::Allocated => "allocated",
            Self::Entropy => "entropy",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl OperationSet {
    /// No operation.
    pub const NONE: Self = Self(0);
    /// Every operation.
    pub const ALL: Self = Self((1 << OperationKind::ALL.len()) - 1);
    /// The operations that may take space: `grow`, `write`, `write_sync`.
    pub const SPACE: Self = Self::NONE
        .with(OperationKind::Grow)
        .with(OperationKind::Write)
        .with(OperationKind::WriteSync);
    /// The operations that write bytes: `write`, `write_sync`.
    pub const WRITES: Self = Self::NONE.with(OperationKind::Write).with(OperationKind::WriteSync);
    /// The operations that make something durable: `sync`, `write_sync`.
    pub const SYNCS: Self = Self::NONE.with(OperationKind::Sync).with(OperationKind::WriteSync);
    /// The operations that change something or make it durable: those of [`SPACE`](Self::SPACE),
    /// `cut`, `punch`, `sync`.
    pub const CHANGES: Self =
        Self::SPACE.with(OperationKind::Cut).with(OperationKind::Punch).with(OperationKind::Sync);

    /// The set with one kind more.
    #[must_use]
    pub const fn with(self, kind: OperationKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// Whether the kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: OperationKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

impl From<OperationKind> for OperationSet {
    fn from(kind: OperationKind) -> Self {
        Self::NONE.with(kind)
    }
}

impl fmt::Debug for OperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(OperationKind::ALL.into_iter().filter(|&kind| self.contains(kind)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn prints_like_a_trace() {
        assert_eq!(format!("{}", Operation::Write { offset: 4096, len: 5 }), "write 4096+5");
        assert_eq!(format!("{}", Operation::Grow { len: 9 }), "grow 9");
        assert_eq!(format!("{}", Operation::Sync), "sync");
        assert_eq!(format!("{:?}", OperationSet::SYNCS), "{WriteSync, Sync}");
    }

    #[test]
    fn sets_hold_what_they_say() {
        for (i, kind) in OperationKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
            assert!(OperationSet::ALL.contains(kind));
            assert!(!OperationSet::NONE.contains(kind));
            assert_eq!(
                OperationSet::from(kind).contains(OperationKind::Sync),
                kind.name() == "sync"
            );
        }
        assert!(OperationSet::CHANGES.contains(OperationKind::WriteSync));
        assert!(!OperationSet::CHANGES.contains(OperationKind::Read));
    }
}
