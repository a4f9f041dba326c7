//! Any bytes as a superblock. The body is `allod_core::fuzzing::superblock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| allod_core::fuzzing::superblock(bytes));
