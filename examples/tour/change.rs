//! What the tour does to each region, computed from nothing but the region's number and length, so
//! that the comparison at the end can compute it again.

/// The longest piece that is appended or overwritten, in bytes.
const LONGEST: u64 = 12_000;

/// What happens to one region. Every combination occurs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    seed: u64,
    /// How many bytes are appended; 0 if none are.
    pub(crate) append: u64,
    /// Whether bytes in the middle are overwritten.
    pub(crate) overwrite: bool,
    /// Whether the region gets another name.
    pub(crate) rename: bool,
    /// Whether the region is removed in the end.
    pub(crate) remove: bool,
}

impl Change {
    /// The change of the region with that number.
    pub(crate) fn of(number: usize) -> Self {
        let mut noise = Noise(number as u64);
        Self {
            seed: noise.next(),
            append: if noise.next() % 3 == 0 { 1 + noise.next() % LONGEST } else { 0 },
            overwrite: noise.next() % 3 == 0,
            rename: noise.next() % 4 == 0,
            remove: noise.next() % 2 == 0,
        }
    }

    /// The bytes that are appended.
    pub(crate) fn appended(&self) -> Vec<u8> {
        bytes(self.seed, self.append)
    }

    /// Where in a region of `len` bytes something is overwritten, and with what. Reaches from the
    /// middle at most to the end.
    pub(crate) fn overwritten(&self, len: u64) -> Option<(u64, Vec<u8>)> {
        let at = len / 2;
        (self.overwrite && len > 0)
            .then(|| (at, bytes(!self.seed, (len - at).min(1 + self.seed % LONGEST))))
    }
}

fn bytes(seed: u64, count: u64) -> Vec<u8> {
    let mut noise = Noise(seed);
    (0..count).map(|_| noise.next() as u8).collect()
}

/// The SplitMix64 generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
