//! The fifteen lines of the README, as a program.
//!
//! ```text
//! cargo run --example quickstart -- [STORE]
//! ```
//!
//! Run it several times with the same STORE: what was flushed is still there.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "quickstart.allod".into());
    let store = allod::open(&path)?;
    let users = store.region_or_create("users")?;
    let log = store.region_or_create("log")?;

    let number = users.append(b"alice\n")? / 6 + 1;
    log.append(format!("alice number {number} came\n").as_bytes())?;
    let report = store.flush()?; // both, or neither, whatever happens

    let before = log.reader()?; // a snapshot, without a copy
    log.append(b"not flushed yet, and already to be read\n")?;
    println!("flushed {} regions with {} syncs; the log:", report.regions, report.syncs);
    print!("{}", String::from_utf8_lossy(&before.read_all()?));

    // Dropped without a flush: the line above is gone, as after a crash.
    drop(store);
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs files, and this build of allod has none for this system");
}
