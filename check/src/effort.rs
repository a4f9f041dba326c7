//! How closely a run looks: how many crash images of a moment, and how hard at each.

/// How closely a run looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// All images of a call are looked at if there are no more than this.
    pub enumerate: u64,
    /// Else so many are drawn by lot, besides the extremes.
    pub samples: u32,
    /// On one of so many images a store is worked on, until more crashes; 0 for none.
    pub branch_once_in: u64,
    /// One of so many images is opened twice, verified, and its space is counted; 0 for none.
    pub verify_once_in: u64,
    /// The first step at whose calls images are looked at.
    pub from: usize,
    /// What is compared.
    pub depth: Depth,
}

/// What is compared of a recovered store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Names, ids, lengths, and every byte.
    #[default]
    Bytes,
    /// Names, ids, lengths and places. What is wrong with bytes only is not seen: this depth is for
    /// measuring, and for a first look at many more images.
    Metadata,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            enumerate: 24,
            samples: 6,
            branch_once_in: 400,
            verify_once_in: 32,
            from: 0,
            depth: Depth::Bytes,
        }
    }
}

impl Effort {
    /// No images at all: what dies is what the history says.
    #[must_use]
    pub fn blind() -> Self {
        Self { enumerate: 0, samples: 0, branch_once_in: 0, from: usize::MAX, ..Self::default() }
    }

    /// As close as shrinking a history needs.
    #[must_use]
    pub fn close() -> Self {
        Self {
            enumerate: 500,
            samples: 60,
            branch_once_in: 0,
            verify_once_in: 4,
            ..Self::default()
        }
    }
}
