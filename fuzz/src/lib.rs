//! The bodies of the fuzz targets `open` and `operations`, and what they need.
//!
//! They are plain functions of bytes that panic on a bug, so that `core/tests/fuzz_smoke.rs` runs
//! them on stable Rust as well. Those of the decoders are in `allod_core::fuzzing`.

pub mod image;
pub mod memory;
pub mod open;
pub mod operations;
