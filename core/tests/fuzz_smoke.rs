//! The bodies of the fuzz targets `open` and `operations` on stable Rust: on what the fuzzers found
//! worth keeping and on what once failed (`fuzz/corpus`, `fuzz/regressions`), and on random changes
//! of that. The decoders have the same in `core/src/fuzzing.rs`.
//!
//! A failure prints the input in hexadecimal; as a file under `fuzz/regressions/TARGET` it is tried
//! first from then on. `ROUNDS=100000` looks longer,
//! `SEED=2` elsewhere.

use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::{env, fs};

use crate::image::{Image, Random};

#[allow(unreachable_pub, dead_code)]
#[path = "../../fuzz/src/image.rs"]
mod image;
#[allow(unreachable_pub, dead_code)]
#[path = "../../fuzz/src/memory.rs"]
mod memory;
#[allow(unreachable_pub, dead_code)]
#[path = "../../fuzz/src/open.rs"]
mod open;
#[allow(unreachable_pub, dead_code)]
#[path = "../../fuzz/src/operations.rs"]
mod operations;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut inputs = Vec::new();
    for kind in ["regressions", "corpus"] {
        let Ok(files) = fs::read_dir(root.join(kind).join(target)) else { continue };
        let mut paths: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
        paths.sort();
        inputs.extend(paths.iter().map(|path| fs::read(path).expect("a readable input")));
    }
    assert!(!inputs.is_empty(), "no corpus for {target}");
    inputs
}

fn rounds(default: u64) -> u64 {
    env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

fn random(number: u64) -> Random {
    let seed: u64 = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    Random((number << 32 | 0x5eed_0001).wrapping_mul(seed | 1))
}

fn check(body: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(|| body(input)) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("input: {hex}");
        resume_unwind(panic);
    }
}

#[test]
fn any_file_opens_or_is_an_error() {
    let inputs = inputs("open");
    inputs.iter().for_each(|input| check(open::run, input));
    let mut random = random(1);
    for _ in 0..rounds(1500) {
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.below(3) {
            if let Some(mut image) = Image::decode(&input) {
                image.mutate(&mut random);
                input = image.encode();
            }
        }
        check(open::run, &input);
    }
}

#[test]
fn any_bytes_are_no_store_or_one() {
    let mut random = random(2);
    for round in 0..rounds(300) {
        let len = random.below(30_000);
        let mut file: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            file.iter_mut().for_each(|byte| *byte = byte.saturating_sub(250));
        }
        file.splice(0..0, [0xff]);
        check(open::run, &file);
    }
}

#[test]
fn operations_match_the_model() {
    let inputs = inputs("operations");
    inputs.iter().for_each(|input| check(operations::run, input));
    let mut random = random(3);
    for _ in 0..rounds(60) {
        let mut input = inputs[random.below(inputs.len())].clone();
        let other = &inputs[random.below(inputs.len())];
        for _ in 0..random.below(20) {
            let at = random.below(input.len().max(1));
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        input.truncate(1 + 4 * random.below(input.len() / 4 + 1));
        input.extend(other.get(1 + 4 * random.below(other.len() / 4 + 1)..).unwrap_or_default());
        check(operations::run, &input);
    }
}
