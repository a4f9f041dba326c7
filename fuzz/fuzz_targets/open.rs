//! Any bytes as the file of a store. See `allod_fuzz::open`.
//!
//! Half of the mutations are libFuzzer's, inside one segment of the image; the others know what a
//! segment is.
#![no_main]

use allod_fuzz::image::{Image, Random};
use allod_fuzz::memory::Counting;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|bytes: &[u8]| allod_fuzz::open::run(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let Some(mut image) = data.get(..size).and_then(Image::decode) else {
        return fuzzer_mutate(data, size, max_size);
    };
    let mut random = Random(u64::from(seed) << 32 | 0x9e37_79b9);
    let segment = random.below(image.segments.len().max(1));
    match image.segments.get_mut(segment) {
        Some(segment) if random.below(2) == 0 => {
            let old = segment.bytes.len();
            let room = old + 64;
            segment.bytes.resize(room, 0);
            let new = fuzzer_mutate(&mut segment.bytes, old, room);
            segment.bytes.truncate(new);
        }
        _ => image.mutate(&mut random),
    }
    let bytes = image.encode();
    let len = bytes.len().min(max_size);
    data[..len].copy_from_slice(&bytes[..len]);
    len
});
