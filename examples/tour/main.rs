//! A tour of allod: stores a real directory tree, changes it, shrinks it, and reads it back.
//!
//! ```text
//! cargo run --release --example tour -- [DIR] [STORE]
//! ```
//!
//! Each regular file below DIR (the repository, if none is given) becomes a region of a store; then
//! regions grow, are overwritten, renamed and removed, the store is compacted, opened again for
//! reading only, and every byte is compared with the files. Nothing in DIR is changed. STORE is a
//! file that does not exist yet and stays afterwards; without it the store is temporary.
//!
//! Files are streamed in pieces and flushed in rounds, so memory does not depend on their size.

#[cfg(unix)]
mod change;
#[cfg(unix)]
mod compare;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod steps;
#[cfg(unix)]
mod tree;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the tour needs files, and this build of allod has none for this system");
}

#[cfg(unix)]
mod run {
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::{SIGINT, SIGTERM};

    use crate::report::{self, say};
    use crate::steps::{End, Tour};
    use crate::tree;

    const USAGE: &str = "\
usage: tour [DIR] [STORE]

Stores each file below DIR as a region of a store, changes and removes some of them,
compacts, reopens, and compares every byte with the files. DIR itself is not changed.

  DIR    a directory; the repository if it is left out
  STORE  the file to make, which must not exist; a temporary one if it is left out";

    pub(crate) fn main() -> ExitCode {
        let mut arguments = Vec::new();
        let mut options_end = false;
        for argument in std::env::args_os().skip(1) {
            match argument.to_str() {
                Some("--") if !options_end => options_end = true,
                Some("-h" | "--help") if !options_end => {
                    say(USAGE);
                    return ExitCode::SUCCESS;
                }
                Some(option) if !options_end && option.starts_with('-') => {
                    return misused(&format!("there is no option {option}"));
                }
                _ => arguments.push(PathBuf::from(argument)),
            }
        }
        let mut arguments = arguments.into_iter();
        let (directory, store, superfluous) =
            (arguments.next(), arguments.next(), arguments.next());
        if let Some(superfluous) = superfluous {
            return misused(&format!("what is {} for?", superfluous.display()));
        }
        let skip_caches = directory.is_none();
        let directory = directory.unwrap_or_else(repository);
        if !directory.is_dir() {
            return misused(&format!("{} is not a directory", directory.display()));
        }
        if let Some(store) = &store {
            if store.symlink_metadata().is_ok() {
                return misused(&format!(
                    "{} exists already; name a file that does not, or remove it first",
                    store.display()
                ));
            }
        }
        match tour(&directory, store.as_deref(), skip_caches) {
            Ok(()) => ExitCode::SUCCESS,
            Err(End::Interrupted) => {
                match &store {
                    Some(store) => eprintln!(
                        "interrupted; {} holds what was flushed last, and opens as ever",
                        store.display()
                    ),
                    None => eprintln!("interrupted; the temporary store is removed"),
                }
                ExitCode::from(130)
            }
            Err(End::Failed(why)) => {
                eprintln!("tour: {why}");
                ExitCode::FAILURE
            }
        }
    }

    fn misused(why: &str) -> ExitCode {
        eprintln!("tour: {why}\n\n{USAGE}");
        ExitCode::from(2)
    }

    /// Where `cargo run` finds the package, or else the current directory.
    fn repository() -> PathBuf {
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
    }

    fn tour(directory: &Path, store: Option<&Path>, skip_caches: bool) -> Result<(), End> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The first one is noticed between two pieces of work; a second one ends the program.
            signal_hook::flag::register_conditional_shutdown(signal, 130, stopped.clone())
                .and_then(|_| signal_hook::flag::register(signal, stopped.clone()))
                .map_err(|error| End::Failed(format!("signals cannot be handled: {error}")))?;
        }
        let (leaves, left_out) =
            tree::walk(directory, skip_caches, || stopped.load(Ordering::Relaxed))
                .map_err(|error| End::Failed(format!("{}: {error}", directory.display())))?;
        // Removed with everything in it when it is dropped.
        let temporary =
            match store {
                Some(_) => None,
                None => Some(tempfile::Builder::new().prefix("allod-tour-").tempdir().map_err(
                    |error| End::Failed(format!("no temporary directory can be made: {error}")),
                )?),
            };
        let path = match (store, &temporary) {
            (Some(store), _) => store.to_path_buf(),
            (None, Some(directory)) => directory.path().join("store.allod"),
            (None, None) => return Err(End::Failed("there is no place for a store".to_string())),
        };
        let bytes = leaves.iter().map(|leaf| leaf.stamp.len).sum();
        say(&format!(
            "{} files with {} in {}",
            report::grouped(leaves.len() as u64),
            report::size(bytes),
            directory.display()
        ));
        if let Some(words) = left_out.describe() {
            say(&format!("left out: {words}"));
        }
        say(&format!(
            "the store: {}{}\n",
            path.display(),
            if temporary.is_some() { " (removed at the end)" } else { "" }
        ));
        let summary = Tour::begin(directory, &path, leaves, stopped)?.run()?;
        say("");
        summary.print();
        if summary.differences > 0 {
            return Err(End::Failed(format!("{} regions differ", summary.differences)));
        }
        Ok(())
    }
}
