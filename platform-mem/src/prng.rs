//! A small deterministic generator of pseudo-random numbers (SplitMix64). Not for secrets.

/// The state of the generator: any number is a good seed.
#[derive(Clone, Copy, Debug)]
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

    /// The next 128 bits.
    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }
}

/// One number out of two, well mixed.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut prng = Prng::new(a ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    prng.bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_splitmix64() {
        // The first numbers of the published generator for the seed 1234567.
        let mut prng = Prng::new(1_234_567);
        assert_eq!(prng.bits(), 6_457_827_717_110_365_317);
        assert_eq!(prng.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut prng = Prng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[prng.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(prng.below(0), 0);
        assert_eq!(prng.below(1), 0);
        assert_ne!(mix(1, 2), mix(2, 1));
    }
}
