//! What a run has reached: a checker that never sees a checkpoint proves nothing about checkpoints.

use std::fmt;

use allod_core::CompactProgress;

macro_rules! coverage {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// How often a run has reached what it is to reach.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Coverage {
            /// Adds what another run reached.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// Every count with its name.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

coverage! {
    /// Histories run.
    histories,
    /// Crash images opened and compared.
    states,
    /// Crash images on which a store was worked on, until more crashes.
    branches,
    /// Operations done.
    steps,
    /// Calls to the platform that changed something, syncs twice.
    calls,
    /// Flushes with one sync.
    small_flushes,
    /// Flushes with two syncs.
    large_flushes,
    /// Flushes that wrote a checkpoint.
    checkpoints,
    /// Flushes that had to write a checkpoint though nobody asked.
    forced_checkpoints,
    /// Flushes to the kernel only.
    kernel_flushes,
    /// Flushes with nothing to do.
    empty_flushes,
    /// Flushes of a cut that was held open.
    held_flushes,
    /// Operations done inside a flush.
    inside,
    /// First changes after opening.
    confirmations,
    /// Stores dropped and opened again.
    reopenings,
    /// Power cuts lived through.
    power_cuts,
    /// Power cuts and deaths before the first change after opening was acknowledged.
    unconfirmed_deaths,
    /// Deaths of the process lived through, with bytes in flight.
    kills,
    /// Stores poisoned by a failed sync.
    poisonings,
    /// Operations that found the disk full.
    full_disks,
    /// Looks at the bytes of a reader after a later operation.
    reader_looks,
    /// Histories with four deaths or more.
    four_deaths,
    /// Compactions and steps of compactions.
    compactions,
    /// Regions that compactions moved, steps counted as often as they are reported.
    moved_down,
    /// Compactions that punched holes.
    punches,
    /// Compactions that cut the file.
    cuts,
    /// Regions whose unused room compactions gave back.
    trims,
    /// Operations done inside a step of a compaction.
    inside_compactions,
    /// Regions copied to another place, to grow or by compaction.
    relocations,
    /// Pages put in place from memory after a flush had made them durable.
    pages_put,
    /// Pages carried over in checkpoints.
    pages_carried,
    /// Checkpoints, not the first ones after opening, that carried pages beside readers.
    carried_beside_readers,
    /// Generations that wrote a slot after both had been written.
    slots_wrapped,
    /// Crash images that were opened twice and verified.
    verified,
}

impl Coverage {
    /// The names of what was never reached.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = self.counts().into_iter();
        counts.filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    pub(crate) fn count(&mut self, progress: &CompactProgress) {
        self.moved_down += progress.moved_regions;
        self.punches += u64::from(progress.punched_bytes > 0);
        self.cuts += u64::from(progress.cut_bytes > 0);
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counts() {
            write!(f, "{} {count}  ", name.replace('_', " "))?;
        }
        Ok(())
    }
}
