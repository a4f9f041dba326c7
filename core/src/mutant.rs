//! Broken builds: each mutant drops one rule, and the crash checker must catch it.
//!
//! Only with the feature `mutants`, which no program but the checker turns on: without it, the
//! question `is` is the constant `false`, and nothing of this is compiled into the store. With it,
//! one mutant at a time is active, for the whole process.

macro_rules! mutants {
    ($($name:ident: $rule:literal, $what:literal;)*) => {
        /// A rule dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(feature = "mutants"), allow(dead_code, unreachable_pub))]
        pub enum Mutant {
            $(
                #[doc = $what]
                $name,
            )*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The rule that it drops, by the numbers of `DESIGN.md`.
            pub fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => $rule,)*
                }
            }

            /// What it does instead.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

mutants! {
    PageRewritten: "I1", "the last page of the previous batch is written again with the next one";
    JournalWraps: "I1", "a full journal begins again in the same generation";
    DataNotSynced: "I2", "a large flush writes its batch without a sync after the data";
    CheckpointNotSynced: "I2", "the slot is written without a sync after the checkpoint";
    KernelNotInline: "I3", "a flush to the kernel names drained bytes without holding them";
    KernelGap: "I3", "a durable flush makes only its own batch durable, not those before it";
    NoChecksum: "I4", "a batch is believed without its checksum";
    NoSalt: "I4", "a batch of another generation is believed";
    NoSequence: "I4", "a batch with another number is believed";
    OneSlot: "I5", "every generation writes the same slot";
    OldFreedEarly: "I5", "the old generation is given up before the new slot is durable";
    ReleasedEarly: "I6", "what a region leaves is free at once";
    ReleasedPinned: "I6", "what a reader looks at is free like anything else";
    ReleaseIgnoresCut: "F7", "any published flush frees what was left, also after its cut";
    TrimForgotten: "F7", "the end that compaction trims off is free at once";
    KernelReleases: "F4", "a flush to the kernel frees what regions have left";
    OldBytesForgotten: "I7", "a page that is partly overwritten loses its other bytes";
    SyncRetried: "I9", "a sync that failed is tried again";
    NotConfirmed: "R4", "after opening, the journal is continued where it seemed to end";
    CutOverRetired: "I10", "the file is cut behind the last live extent";
    PutUnderReader: "I11", "pages that a reader maps are changed in place";
    DrainBelowFloor: "I11", "pages below the floor are changed in place";
    FirstEntryPartial: "I12", "the first entry of a page is only the changed range";
    JournaledReleased: "I12", "places with entries in this generation are given away";
    BitSurvives: "P2", "a page stays journaled in the next generation without being carried";
    TruncateClearsBit: "P2", "truncation forgets that a page is journaled";
    FloorAtPublish: "P1", "the floor does not rise at the cut";
    FloorFallsEarly: "P1", "the floor falls with truncation";
    FloorInBytes: "P1", "the floor is not rounded up to whole pages";
    KernelImagePut: "P5", "an image that only the kernel has is put in place";
    DrainedIsClean: "F2", "a small flush takes drained bytes as durable";
    NothingCarried: "F5", "a checkpoint carries no pages";
    BlockedPlaced: "F5", "a checkpoint places pages that a reader maps";
    PlacedLate: "F5", "a checkpoint places pages after the first sync";
    NoProof: "F5", "a checkpoint writes no proof";
    OpenFreesEarly: "R4", "after opening, free is what the last visible batch does not name";
    OpenPutsEarly: "R4", "the confirmation places pages instead of carrying them";
    WrongSlot: "R5", "the confirmation always writes the other slot";
    OwnSlot: "R5", "the confirmation always writes its own slot";
    ProofBelieved: "R4", "a visible proof is taken for a durable one";
    NoFallback: "R1", "a slot whose checkpoint does not read is damage";
    SaltRepeats: "R6", "every generation has the same salt";
    LeftUnmarked: "I12", "an extent left during a flush is not marked as having entries";
    LengthBelieved: "I9", "after opening, the length of the file is taken for durable";
    MixedCut: "F1", "a writer that comes before the flush leaves its new state for it";
}

#[cfg(feature = "mutants")]
mod active {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::Mutant;

    static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Makes a mutant the active one, or none.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(usize::MAX, |mutant| mutant as usize), Ordering::SeqCst);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as usize
    }
}

#[cfg(feature = "mutants")]
pub use active::activate;
#[cfg(feature = "mutants")]
pub(crate) use active::is;

/// Whether the mutant is active: never, in a build for use.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
