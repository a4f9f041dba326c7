//! The alphabet of the file format: fixed little-endian integers, varints, names and checksums,
//! and the [`Input`] that all decoders read from.
//!
//! Nothing here knows a structure of the file; those are `superblock`, `checkpoint` and `journal`.
//! Reading is total (I13): an [`Input`] answers `None` where the bytes do not hold what was asked
//! for, never panics, and allocates nothing.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::vec::Vec;

use crate::run::MAX_NAME_LEN;

/// Bytes that are being decoded, from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads `bytes` from their first on.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes have not been read.
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// The next `N` bytes, by value.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    /// The next four bytes as a number.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next sixteen bytes as a number.
    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// The next `len` bytes, borrowed.
    #[inline]
    pub(crate) fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    /// The next varint. `None` where it is cut off, passes 64 bits, or is longer than it need be:
    /// a number has one encoding only.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let (&first, rest) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = rest;
            return Some(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// The next signed varint (zigzag).
    #[inline]
    pub(crate) fn signed_varint(&mut self) -> Option<i64> {
        let coded = self.varint()?;
        Some((coded >> 1) as i64 ^ -((coded & 1) as i64))
    }

    /// The next name: a varint length and so many bytes of UTF-8 that [`is_name`] accepts.
    #[inline]
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let len = self.varint()?;
        if len > MAX_NAME_LEN as u64 {
            return None;
        }
        let name = core::str::from_utf8(self.bytes(len)?).ok()?;
        is_name(name).then_some(name)
    }
}

/// Appends a varint: seven bits a byte, low ones first, the high bit set on all bytes but the last.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint: zigzag, so that numbers near zero of either sign are short.
#[inline]
pub(crate) fn put_signed_varint(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a name: its length as a varint, and its bytes. The caller has checked it.
#[inline]
pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(is_name(name), "{name:?} is no name");
    put_varint(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
}

/// Whether a region may have this name: 1 to 1,024 bytes, no control character.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len()) && control_character(name).is_none()
}

/// Where the first control character (U+0000 to U+001F, U+007F to U+009F) of `name` starts, in
/// bytes.
pub(crate) fn control_character(name: &str) -> Option<usize> {
    // In UTF-8 the control characters outside ASCII are 0xC2 followed by 0x80 to 0x9F, so a pass
    // over the bytes rules nearly every name out without decoding characters.
    let suspect = |&byte: &u8| byte < 0x20 || byte == 0x7f || byte == 0xc2;
    if !name.as_bytes().iter().any(suspect) {
        return None;
    }
    name.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at)
}

/// The CRC-32/ISO-HDLC of `bytes`, with the four bytes at `field` taken as zeros: a checksum over
/// something that contains it.
pub(crate) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let (before, rest) = bytes.split_at_checked(field).unwrap_or((bytes, &[]));
    let (own, after) = rest.split_at_checked(4).unwrap_or((rest, &[]));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update([0; 4].get(..own.len()).unwrap_or(&[]));
    hasher.update(after);
    hasher.finalize()
}

/// Writes `field` over the bytes at `at`. Does nothing where they do not exist.
pub(crate) fn patch(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|tail| tail.get_mut(..field.len())) {
        place.copy_from_slice(field);
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn varint(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    fn whole(bytes: &[u8]) -> Option<u64> {
        let mut input = Input::new(bytes);
        let value = input.varint()?;
        (input.remaining() == 0).then_some(value)
    }

    #[test]
    fn varints_are_these_bytes() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
            (16_383, vec![0xff, 0x7f]),
            (16_384, vec![0x80, 0x80, 1]),
            (u64::MAX, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(varint(value), bytes);
            assert_eq!(whole(&bytes), Some(value));
        }
    }

    #[test]
    fn varints_have_one_encoding() {
        for bytes in [
            &[0x80, 0][..],
            &[0xff, 0],
            &[0x80, 0x80, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0],
            &[0x80],
            &[],
        ] {
            assert_eq!(whole(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn signed_varints_are_zigzag() {
        for (value, coded) in
            [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)]
        {
            let mut out = Vec::new();
            put_signed_varint(&mut out, value);
            assert_eq!(out, varint(coded));
            assert_eq!(Input::new(&out).signed_varint(), Some(value));
        }
    }

    #[test]
    fn names() {
        for name in ["a", "täg/ñ", "\u{a0}", "©", " ", "日本"] {
            assert!(is_name(name), "{name:?}");
        }
        for (name, at) in [("\0", 0), ("ab\n", 2), ("é\u{7f}", 2), ("©\u{80}", 2), ("\u{9f}", 0)]
        {
            assert_eq!(control_character(name), Some(at), "{name:?}");
            assert!(!is_name(name));
        }
        assert!(!is_name(""));
        assert!(is_name(&"n".repeat(1024)));
        assert!(!is_name(&"n".repeat(1025)));
        for bytes in [&[0][..], &[2, b'a'], &[1, 0xff], &[1, 7], &[0x81, 0x80, 0x80, 1, b'a']] {
            assert_eq!(Input::new(bytes).name(), None, "{bytes:?}");
        }
        assert_eq!(Input::new(&[2, b'a', b'b', b'c']).name(), Some("ab"));
    }

    #[test]
    fn checksum_is_the_iso_crc_and_skips_its_own_field() {
        assert_eq!(checksum(b"123456789", 9), 0xcbf4_3926);
        assert_eq!(checksum(b"123456789", 99), 0xcbf4_3926);
        assert_eq!(checksum(b"12\0\0\0\0xyz", 2), checksum(b"12abcdxyz", 2));
        assert_eq!(checksum(b"12\0\0\0\0xyz", 9), checksum(b"12abcdxyz", 2));
        assert_ne!(checksum(b"12abcdxyz", 2), checksum(b"12abcdxyy", 2));
        assert_eq!(checksum(b"12345", 3), checksum(b"123\0\0", 5));
    }

    #[test]
    fn patch_stays_inside() {
        let mut bytes = [1, 2, 3, 4];
        patch(&mut bytes, 2, &[9, 9]);
        patch(&mut bytes, 3, &[7, 7]);
        patch(&mut bytes, 9, &[7]);
        assert_eq!(bytes, [1, 2, 9, 9]);
    }

    proptest! {
        #[test]
        fn numbers_come_back(a: u64, b: i64, small in 0u64..1 << 21) {
            let mut out = Vec::new();
            put_varint(&mut out, a);
            put_signed_varint(&mut out, b);
            put_varint(&mut out, small);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.varint(), Some(a));
            prop_assert_eq!(input.signed_varint(), Some(b));
            prop_assert_eq!(input.varint(), Some(small));
            prop_assert_eq!(input.remaining(), 0);
        }

        #[test]
        fn a_varint_that_decodes_is_the_one_that_is_written(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut input = Input::new(&bytes);
            if let Some(value) = input.varint() {
                let used = bytes.len() - input.remaining();
                prop_assert_eq!(varint(value), &bytes[..used]);
            }
        }

        #[test]
        fn control_characters_are_those_of_unicode(name: String) {
            let slow = name.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at);
            prop_assert_eq!(control_character(&name), slow);
        }
    }
}
