//! Your own code under power cuts: a bank on a simulated disk that may lose power at any call.
//!
//! ```text
//! cargo run --release --example power_cut
//! ```
//!
//! Money moves between two regions, with one flush for each transfer. Before each thing that the
//! store does to the disk, the program draws some of the images that a power cut could leave, opens
//! a store on each, and counts the money. Take the flush away, or put one between the two writes,
//! to see it find the gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allod::mem::SimDisk;
use allod::{Error, Options, Store};

/// All the money there is.
const MONEY: u64 = 1_000;
const TRANSFERS: u64 = 200;
/// How many images are drawn at each call.
const IMAGES: u64 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = SimDisk::new(7);
    let store = options().open(disk.clone())?;
    let (here, there) = (store.create_region("here")?, store.create_region("there")?);
    here.append(&MONEY.to_le_bytes())?;
    there.append(&0u64.to_le_bytes())?;
    store.flush()?;

    let (cuts, wrong) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (cuts_seen, wrong_seen) = (cuts.clone(), wrong.clone());
    disk.set_observer(Some(Arc::new(move |disk: &SimDisk, _: &_| {
        for _ in 0..IMAGES {
            let image = disk.sample(cuts_seen.fetch_add(1, Ordering::Relaxed));
            let money = options().open(image).and_then(|store| money(&store));
            if money != Ok(MONEY) {
                eprintln!("after a power cut: {money:?}");
                wrong_seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    })));
    for number in 0..TRANSFERS {
        let amount = number % 10 * 3;
        let (from, to) = if number % 20 < 10 { (&here, &there) } else { (&there, &here) };
        from.replace(&(balance(&from.read_all()?) - amount).to_le_bytes())?;
        to.replace(&(balance(&to.read_all()?) + amount).to_le_bytes())?;
        store.flush()?;
    }
    disk.set_observer(None);

    let (cuts, wrong) = (cuts.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
    println!("{TRANSFERS} transfers, {cuts} power cuts, {wrong} with money lost or made");
    if wrong == 0 { Ok(()) } else { Err("the bank is broken".into()) }
}

/// A small journal, so that checkpoints happen, too.
fn options() -> Options {
    Options::new().journal_size(64 << 10)
}

fn money(store: &Store<SimDisk>) -> Result<u64, Error> {
    let mut sum = 0;
    for name in ["here", "there"] {
        let region = store.region(name).ok_or(Error::NoRegion { name: name.into() })?;
        sum += balance(&region.read_all()?);
    }
    Ok(sum)
}

fn balance(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX / 2, u64::from_le_bytes)
}
