//! A real directory tree: which of its files can become regions, and how to read them.
//!
//! Only regular files on the file system of the root are taken. Everything else is counted, so that
//! the tour can say what it left out. Nothing here assumes that the tree holds still: a file that
//! is gone, or is another one, when it is opened is an ordinary answer.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest name of a region, in bytes.
const LONGEST_NAME: usize = 1024;

/// What tells whether a file is still the one that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The length in bytes.
    pub(crate) len: u64,
    file: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            len: found.len(),
            file: (found.dev(), found.ino()),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// A file that may become a region.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// The path from the root, with slashes: the name of the region.
    pub(crate) name: String,
    /// What it was like when the tree was walked.
    pub(crate) stamp: Stamp,
}

/// What the tour leaves out, and why.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeftOut {
    /// Symbolic links: their targets are somebody else's.
    pub(crate) links: u64,
    /// Devices, pipes and sockets.
    pub(crate) special: u64,
    /// Files and directories that cannot be read, or that were gone when it came to reading them.
    pub(crate) unreadable: u64,
    /// Names that are not UTF-8, have control characters or are too long for a region.
    pub(crate) names: u64,
    /// Directories on other file systems.
    pub(crate) mounts: u64,
    /// Directories that are marked as caches (by a file `CACHEDIR.TAG`).
    pub(crate) caches: u64,
}

impl LeftOut {
    /// The counts that are not zero, in words.
    pub(crate) fn describe(&self) -> Option<String> {
        let counts = [
            (self.links, "symbolic links"),
            (self.special, "special files"),
            (self.unreadable, "unreadable"),
            (self.names, "names that no region can have"),
            (self.mounts, "other file systems"),
            (self.caches, "cache directories"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{what}: {count}"))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Finds the files below `root`, in the order of their names in each directory. `skip_caches` leaves
/// out directories that are marked as caches; `stopped` ends the walk early.
///
/// Fails only if the root itself cannot be listed.
pub(crate) fn walk(
    root: &Path,
    skip_caches: bool,
    stopped: impl Fn() -> bool,
) -> io::Result<(Vec<Leaf>, LeftOut)> {
    let mut leaves = Vec::new();
    let mut out = LeftOut::default();
    let device = fs::metadata(root)?.dev();
    let mut waiting = vec![(list(root)?, None::<String>)];
    while let Some((children, prefix)) = waiting.last_mut() {
        let Some(child) = children.next() else {
            waiting.pop();
            continue;
        };
        if stopped() {
            break;
        }
        let Ok(found) = fs::symlink_metadata(&child) else {
            out.unreadable += 1;
            continue;
        };
        let name = child.file_name().and_then(|name| name.to_str()).map(|name| match prefix {
            Some(prefix) => format!("{prefix}/{name}"),
            None => name.to_string(),
        });
        let kind = found.file_type();
        if kind.is_symlink() {
            out.links += 1;
        } else if kind.is_dir() {
            if found.dev() != device {
                out.mounts += 1;
            } else if skip_caches && child.join("CACHEDIR.TAG").exists() {
                out.caches += 1;
            } else {
                match (name, list(&child)) {
                    (Some(name), Ok(children)) => waiting.push((children, Some(name))),
                    (None, _) => out.names += 1,
                    (_, Err(_)) => out.unreadable += 1,
                }
            }
        } else if !kind.is_file() {
            out.special += 1;
        } else {
            match name.filter(|name| is_region_name(name)) {
                Some(name) => leaves.push(Leaf { name, stamp: Stamp::of(&found) }),
                None => out.names += 1,
            }
        }
    }
    Ok((leaves, out))
}

/// The children of a directory, in order.
fn list(directory: &Path) -> io::Result<std::vec::IntoIter<PathBuf>> {
    let mut children: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|child| child.map(|c| c.path())).collect::<Result<_, _>>()?;
    children.sort_unstable();
    Ok(children.into_iter())
}

/// Whether a region can have this name.
pub(crate) fn is_region_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)
}

/// Opens a file of the tree, and says what it is like now.
///
/// Fails if it is not a regular file any more.
pub(crate) fn open(root: &Path, name: &str) -> io::Result<(File, Stamp)> {
    let path = root.join(name);
    // Looked at first, because opening a pipe would wait for somebody to write to it.
    if !fs::symlink_metadata(&path)?.is_file() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let file = File::open(path)?;
    let stamp = stamp(&file)?;
    Ok((file, stamp))
}

/// What an open file is like now.
pub(crate) fn stamp(file: &File) -> io::Result<Stamp> {
    Ok(Stamp::of(&file.metadata()?))
}
