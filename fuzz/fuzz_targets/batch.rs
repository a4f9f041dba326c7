//! Any bytes as a batch. The body is `allod_core::fuzzing::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| allod_core::fuzzing::batch(bytes));
