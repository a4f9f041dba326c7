//! A small deterministic generator of pseudo-random numbers (SplitMix64). Not for secrets.

/// The state of the generator: any number is a good seed.
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0 where `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the values.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// One number out of two, well mixed.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    Prng::new(a ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93)).bits()
}

/// `len` bytes that no other seed gives.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut prng = Prng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&prng.bits().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
