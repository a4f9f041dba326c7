//! Any bytes as a list of operations on a store, against a model. See `allod_fuzz::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| allod_fuzz::operations::run(bytes));
