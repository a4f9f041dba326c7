//! Looks into a store: where its bytes are, which regions it has, and whether all of it is sound.
//!
//! ```text
//! cargo run --example inspect -- STORE
//! ```
//!
//! Opens it for reading only. Ends with code 1 if something is wrong with it.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: inspect STORE");
        return ExitCode::from(2);
    };
    match inspect(&path) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn inspect(path: &std::ffi::OsStr) -> Result<bool, Box<dyn std::error::Error>> {
    use std::io::Write;

    let store = allod::open_read_only(path)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "store {:032x}, pages of {} bytes", store.id(), store.page_size())?;
    writeln!(out, "{:#?}", store.disk_usage()?)?;
    let regions = store.regions();
    writeln!(out, "{} regions, the longest first:", regions.len())?;
    writeln!(out, "{:>10} {:>16} {:>16} {:>16}  name", "id", "length", "room", "start")?;
    let mut longest: Vec<_> = regions.iter().collect();
    longest.sort_by_key(|region| std::cmp::Reverse(region.len));
    for region in longest.into_iter().take(20) {
        let allod::RegionInfo { name, id, len, capacity, start } = region;
        writeln!(out, "{id:>10} {len:>16} {capacity:>16} {start:>16}  {name}")?;
    }
    let verification = store.verify()?;
    for finding in &verification.findings {
        writeln!(out, "WRONG: {}", finding.damage)?;
    }
    if verification.is_clean() {
        let allod::Verification { regions, batches, bytes, .. } = verification;
        writeln!(out, "sound: {regions} regions, {batches} batches, {bytes} bytes checked")?;
    }
    Ok(verification.is_clean())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs files, and this build of allod has none for this system");
}
