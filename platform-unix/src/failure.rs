//! How an error number of the system becomes a [`PlatformError`]: one table for all calls, and the
//! path in every message.
//!
//! It is not where failures are decided: whoever knows more than the number (a lock that is held, a
//! directory where a file should be) makes the error from that.

use std::io;
use std::path::Path;

use allod_core::{PlatformError, PlatformErrorKind as Kind};
use rustix::io::Errno;

/// The failure of `operation` on the file at `path`, as the system told it.
pub(crate) fn failure(operation: &'static str, path: &Path, errno: Errno) -> PlatformError {
    failure_because(operation, path, errno, &message(errno))
}

/// The same, with other words than those of the system.
pub(crate) fn failure_because(
    operation: &'static str,
    path: &Path,
    errno: Errno,
    why: &str,
) -> PlatformError {
    refusal(kind(errno), operation, path, why).code(errno.raw_os_error())
}

/// A failure that this crate found by itself, without an error number of the system.
pub(crate) fn refusal(
    kind: Kind,
    operation: &'static str,
    path: &Path,
    why: &str,
) -> PlatformError {
    PlatformError::new(kind, operation).detail(format!("{}: {why}", path.display()))
}

/// The error number inside an error of the standard library. Only a path that no call of the
/// system accepts (with a NUL in it) has none.
pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// Whether the number says that this system, or this file system, does not know the call at all.
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    // Two names for one number on Linux and FreeBSD, two numbers on macOS.
    errno == Errno::NOTSUP || errno == Errno::OPNOTSUPP || errno == Errno::NOSYS
}

/// What the system calls the error, without the number that [`PlatformError`] shows itself.
fn message(errno: Errno) -> String {
    let mut text = io::Error::from(errno).to_string();
    if let Some(end) = text.rfind(" (os error") {
        text.truncate(end);
    }
    text
}

fn kind(errno: Errno) -> Kind {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Kind::NoSpace,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Kind::NotFound,
        Errno::EXIST => Kind::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::TXTBSY => Kind::PermissionDenied,
        Errno::ROFS => Kind::ReadOnly,
        Errno::ISDIR | Errno::NXIO => Kind::NotAFile,
        Errno::NOLCK | Errno::NAMETOOLONG => Kind::Unsupported,
        // A lock, or a lease that another process holds on the file.
        other if other == Errno::WOULDBLOCK => Kind::Locked,
        other if is_unsupported(other) => Kind::Unsupported,
        _ => Kind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_a_user_can_act_on_has_its_kind() {
        let table = [
            (Errno::NOSPC, Kind::NoSpace),
            (Errno::DQUOT, Kind::NoSpace),
            (Errno::FBIG, Kind::NoSpace),
            (Errno::NOENT, Kind::NotFound),
            (Errno::NOTDIR, Kind::NotFound),
            (Errno::LOOP, Kind::NotFound),
            (Errno::EXIST, Kind::AlreadyExists),
            (Errno::ACCESS, Kind::PermissionDenied),
            (Errno::PERM, Kind::PermissionDenied),
            (Errno::ROFS, Kind::ReadOnly),
            (Errno::ISDIR, Kind::NotAFile),
            (Errno::AGAIN, Kind::Locked),
            (Errno::NOLCK, Kind::Unsupported),
            (Errno::NOTSUP, Kind::Unsupported),
            (Errno::OPNOTSUPP, Kind::Unsupported),
            (Errno::NOSYS, Kind::Unsupported),
            (Errno::IO, Kind::Io),
            (Errno::MFILE, Kind::Io),
        ];
        for (number, expected) in table {
            assert_eq!(kind(number), expected, "{number:?}");
        }
    }

    #[test]
    fn the_message_names_the_path_and_shows_the_number_once() {
        let error = failure("write", Path::new("/a/b"), Errno::IO).at(7, 9);
        assert_eq!(error.code, Some(Errno::IO.raw_os_error()));
        let text = error.to_string();
        assert!(text.contains("/a/b"), "{text}");
        assert!(text.contains("9 bytes at offset 7"), "{text}");
        assert_eq!(text.matches("os error").count(), 1, "{text}");
    }
}
