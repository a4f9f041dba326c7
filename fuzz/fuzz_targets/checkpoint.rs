//! Any bytes as a checkpoint. The body is `allod_core::fuzzing::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| allod_core::fuzzing::checkpoint(bytes));
