//! Writes the seeds of the corpora: `cargo run --bin seeds -- corpus`.
//!
//! Stores as real histories leave them, as images for `open`, cut into pieces for the decoders; and
//! histories for `operations`.

use std::path::Path;
use std::{env, fs, io};

use allod_core::{Durability, Options, Store};
use allod_fuzz::image::{Image, Random, Segment};
use allod_mem::MemPlatform;

fn main() -> io::Result<()> {
    let root = env::args().nth(1).unwrap_or_else(|| "corpus".into());
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&root).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    for (number, file) in stores().into_iter().enumerate() {
        let image = Image::of(&file);
        write("open", &format!("seed-{number}"), &image.encode())?;
        for (piece, segment) in image.segments.iter().enumerate() {
            let Segment { bytes, .. } = segment;
            let name = format!("seed-{number}-{piece}");
            if bytes.starts_with(b"allodbat") {
                write("batch", &name, &[&[0, 0][..], bytes].concat())?;
            } else if bytes.starts_with(b"allodckp") {
                write("checkpoint", &name, &[&[0, 0, 200, 0, 0, 0][..], bytes].concat())?;
            } else if bytes.starts_with(b"allod\r\n") {
                write("superblock", &name, bytes)?;
            }
        }
    }
    for number in 1..=8 {
        let mut random = Random(number * 77_777);
        let bytes: Vec<u8> = (0..=240).map(|_| random.next() as u8).collect();
        write("operations", &format!("seed-{number}"), &bytes)?;
    }
    Ok(())
}

/// The files of stores at telling moments.
fn stores() -> Vec<Vec<u8>> {
    let options = Options::new().journal_size(16 << 10).inline_limit(8 << 10);
    let platform = MemPlatform::new().with_entropy(1);
    let mut files = vec![Vec::new(), vec![0; 4096 * 5]];
    let mut keep = || files.push(platform.to_bytes().expect("memory"));
    let store: Store<MemPlatform> = options.open(platform.clone()).expect("a new store");
    keep();
    let a = store.create_region("a").expect("creating");
    let b = store.create_region("b").expect("creating");
    store.create_region("täg").expect("creating");
    a.append(b"hello").expect("appending");
    store.flush().expect("flushing");
    keep();
    b.append(&[5; 9000]).expect("appending");
    store.flush().expect("flushing");
    a.write_at(2, b"y").expect("writing");
    store.flush().expect("flushing");
    b.write_at(4096, b"z").expect("writing");
    store.flush_with(Durability::Process).expect("flushing");
    keep();
    let old = a.reader().expect("a reader");
    a.write_at(0, b"carried").expect("writing");
    store.checkpoint().expect("a checkpoint");
    keep();
    drop(old);
    store.rename_region("täg", "c").expect("renaming");
    store.remove_region("a").expect("removing");
    b.truncate(100).expect("truncating");
    store.flush().expect("flushing");
    keep();
    drop((a, b, store));
    let store = options.open(platform.clone()).expect("opening");
    let c = store.region("c").expect("a region");
    c.append(b"after opening").expect("appending");
    store.flush().expect("flushing");
    keep();
    files
}
