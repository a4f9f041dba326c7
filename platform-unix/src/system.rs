//! What differs between the systems: making bytes durable, making holes, and randomness.
//!
//! It is not where errors are worded or retried beyond an interrupted call: numbers of the system
//! go up as they are.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::failure::is_unsupported;

/// What this file turned out not to support. Each is found out once and then remembered.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// `pwritev2` with `RWF_DSYNC` (Linux).
    #[cfg(target_os = "linux")]
    durable_write: AtomicBool,
    /// `F_FULLFSYNC` (macOS).
    #[cfg(target_vendor = "apple")]
    full_sync: AtomicBool,
    /// Making holes.
    punch: AtomicBool,
}

/// Where a write of several pieces stopped.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// How many bytes are in place.
    pub(crate) done: usize,
    /// Why no more are.
    pub(crate) errno: Errno,
}

/// A call moves at most this many bytes: macOS refuses 2 GiB and more, Linux moves less than that.
const PIECE: usize = 1 << 30;

/// Calls `write` with what is left of `bytes`, and the offset of it, until nothing is left.
pub(crate) fn write_pieces(
    offset: u64,
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> Result<usize, Errno>,
) -> Result<(), Stopped> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let piece = rest.get(..PIECE).unwrap_or(rest);
        match write(offset.saturating_add(done as u64), piece) {
            // A file that takes nothing, and says nothing, would make an endless loop.
            Ok(0) => return Err(Stopped { done, errno: Errno::IO }),
            Ok(count) => done += count.min(piece.len()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Stopped { done, errno }),
        }
    }
    Ok(())
}

/// Fills `buf` from `offset`; answers how many bytes there were before the end of the file.
pub(crate) fn read_pieces(
    offset: u64,
    buf: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let len = rest.len().min(PIECE);
        let Some(piece) = rest.get_mut(..len) else { break };
        match read(offset.saturating_add(done as u64), piece) {
            Ok(0) => break,
            Ok(count) => done += count.min(len),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

impl Refused {
    /// Makes everything written durable, the length too. An interrupted call has reported nothing
    /// and is repeated; any other failure is final, since the system tells it only once.
    #[cfg(not(target_vendor = "apple"))]
    pub(crate) fn sync(&self, file: &File) -> Result<(), Errno> {
        uninterrupted(|| rustix::fs::fdatasync(file))
    }

    /// The same. `fsync` would leave the bytes in the cache of the device, and `F_BARRIERFSYNC`
    /// only orders them there. File systems of networks refuse `F_FULLFSYNC`.
    #[cfg(target_vendor = "apple")]
    pub(crate) fn sync(&self, file: &File) -> Result<(), Errno> {
        if !self.full_sync.load(Ordering::Relaxed) {
            match uninterrupted(|| rustix::fs::fcntl_fullfsync(file)) {
                Err(errno)
                    if is_unsupported(errno) || errno == Errno::INVAL || errno == Errno::NOTTY =>
                {
                    self.full_sync.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        uninterrupted(|| rustix::fs::fsync(file))
    }

    /// Writes `bytes` and makes just them durable, as far as the system can do that in one call;
    /// answers how many are. The others are still to be written and synced.
    #[cfg(target_os = "linux")]
    pub(crate) fn write_durably(
        &self,
        file: &File,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Stopped> {
        use rustix::io::{ReadWriteFlags, pwritev2};
        use std::io::IoSlice;

        if self.durable_write.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let write = |offset, piece: &[u8]| {
            pwritev2(file, &[IoSlice::new(piece)], offset, ReadWriteFlags::DSYNC)
        };
        match write_pieces(offset, bytes, write) {
            Ok(()) => Ok(bytes.len()),
            Err(stopped) if says_unknown(stopped.errno) && !knows_durable_flag(file) => {
                self.durable_write.store(true, Ordering::Relaxed);
                Ok(stopped.done)
            }
            Err(stopped) => Err(stopped),
        }
    }

    /// There is no such call: nothing is written.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn write_durably(
        &self,
        _file: &File,
        _offset: u64,
        _bytes: &[u8],
    ) -> Result<usize, Stopped> {
        Ok(0)
    }

    /// Gives the space of the range back; answers whether the file system can do that.
    pub(crate) fn punch(&self, file: &File, offset: u64, len: u64) -> Result<bool, Errno> {
        if !self.can_punch() {
            return Ok(false);
        }
        match uninterrupted(|| hole::punch(file, offset, len)) {
            Err(errno) if is_unsupported(errno) => {
                self.punch.store(true, Ordering::Relaxed);
                Ok(false)
            }
            done => done,
        }
    }

    /// Whether the file system can make holes, as far as is known.
    pub(crate) fn can_punch(&self) -> bool {
        !self.punch.load(Ordering::Relaxed)
    }

    /// Finds out, without changing anything, whether the file system can make holes. `end` is the
    /// length of the file, which is open for writing.
    pub(crate) fn probe_punch(&self, file: &File, end: u64) {
        if !hole::possible(file, end) {
            self.punch.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether the number can mean that the kernel does not know the call or its flag.
#[cfg(target_os = "linux")]
fn says_unknown(errno: Errno) -> bool {
    is_unsupported(errno) || errno == Errno::INVAL
}

/// Whether the kernel knows the flag, asked by a *read* with it, where it means nothing.
///
/// The same numbers can also be the report of a device that failed to write earlier bytes, which a
/// durable write delivers, once. To write again and sync in another way would then lose bytes in
/// silence. A read delivers no such reports.
#[cfg(target_os = "linux")]
fn knows_durable_flag(file: &File) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    use std::io::IoSliceMut;

    let mut byte = [0];
    let answer = uninterrupted(|| {
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::DSYNC)
    });
    !matches!(answer, Err(errno) if says_unknown(errno))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod hole {
    use super::{Errno, File, is_unsupported, uninterrupted};
    use rustix::fs::{FallocateFlags, fallocate};

    const PROBE: u64 = 4096;

    pub(super) fn punch(file: &File, offset: u64, len: u64) -> Result<bool, Errno> {
        let flags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
        fallocate(file, flags, offset, len).map(|()| true)
    }

    /// Makes a hole behind the end, where there is nothing to lose.
    pub(super) fn possible(file: &File, end: u64) -> bool {
        let Some(behind) = end.checked_next_multiple_of(PROBE) else { return true };
        if i64::try_from(behind.saturating_add(PROBE)).is_err() {
            return true;
        }
        !matches!(uninterrupted(|| punch(file, behind, PROBE)), Err(e) if is_unsupported(e))
    }
}

#[cfg(target_vendor = "apple")]
mod hole {
    use super::{Errno, File};
    use std::os::fd::AsRawFd;

    /// The system takes only whole blocks of the file system, so the range shrinks to those.
    pub(super) fn punch(file: &File, offset: u64, len: u64) -> Result<bool, Errno> {
        let block = u64::from(rustix::fs::fstatfs(file)?.f_bsize).max(1);
        let end = offset.saturating_add(len) / block * block;
        let Some(start) = offset.checked_next_multiple_of(block) else { return Ok(false) };
        let (Ok(fp_offset), Ok(fp_length)) =
            (start.try_into(), end.saturating_sub(start).try_into())
        else {
            return Err(Errno::OVERFLOW);
        };
        if fp_length == 0 {
            return Ok(false);
        }
        let range = libc::fpunchhole_t { fp_flags: 0, reserved: 0, fp_offset, fp_length };
        // SAFETY: the descriptor is open, and `F_PUNCHHOLE` reads one `fpunchhole_t` through the
        // pointer during the call and keeps nothing.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const range) } {
            -1 => Err(crate::failure::errno(&std::io::Error::last_os_error())),
            _ => Ok(true),
        }
    }

    /// There is no way to ask: the first hole tells.
    pub(super) fn possible(_file: &File, _end: u64) -> bool {
        true
    }
}

#[cfg(target_os = "freebsd")]
mod hole {
    use super::{Errno, File};
    use std::os::fd::AsRawFd;

    /// The number of `fspacectl`, which the C library has only since FreeBSD 14.
    const FSPACECTL: libc::c_int = 580;
    /// The question to `fpathconf` whether the file system makes holes by itself.
    const DEALLOC_PRESENT: libc::c_int = 65;

    pub(super) fn punch(file: &File, offset: u64, len: u64) -> Result<bool, Errno> {
        let (Ok(r_offset), Ok(r_len)) = (offset.try_into(), len.try_into()) else {
            return Err(Errno::OVERFLOW);
        };
        let mut range = libc::spacectl_range { r_offset, r_len };
        while range.r_len > 0 {
            let asked = range;
            // SAFETY: the descriptor is open; the call reads the range behind the first pointer and
            // writes what is left of it behind the second, both of which outlive it. That the
            // kernel knows the call is certain once `possible` has said yes, and without that
            // nothing is punched.
            let answer = unsafe {
                libc::syscall(
                    FSPACECTL,
                    file.as_raw_fd(),
                    libc::SPACECTL_DEALLOC,
                    &raw const asked,
                    0,
                    &raw mut range,
                )
            };
            if answer == -1 {
                return Err(crate::failure::errno(&std::io::Error::last_os_error()));
            }
            if range.r_len >= asked.r_len {
                break;
            }
        }
        Ok(true)
    }

    /// A file system without holes would write zeros instead, and older systems lack the call.
    pub(super) fn possible(file: &File, _end: u64) -> bool {
        // SAFETY: the descriptor is open, and the call takes no pointer.
        unsafe { libc::fpathconf(file.as_raw_fd(), DEALLOC_PRESENT) == 1 }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
)))]
mod hole {
    use super::{Errno, File};

    pub(super) fn punch(_file: &File, _offset: u64, _len: u64) -> Result<bool, Errno> {
        Err(Errno::NOSYS)
    }

    pub(super) fn possible(_file: &File, _end: u64) -> bool {
        false
    }
}

/// 128 random bits from the generator of the system.
pub(crate) fn entropy() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    #[cfg(target_os = "linux")]
    {
        let fill = |_offset, buf: &mut [u8]| {
            rustix::rand::getrandom(buf, rustix::rand::GetRandomFlags::empty())
        };
        match read_pieces(0, &mut bytes, fill) {
            Ok(count) if count == bytes.len() => return Ok(u128::from_le_bytes(bytes)),
            Ok(_) => return Err(Errno::IO),
            // A sandbox may forbid the call and still show the device.
            Err(errno) if is_unsupported(errno) || errno == Errno::PERM => {}
            Err(errno) => return Err(errno),
        }
    }
    File::open("/dev/urandom")
        .and_then(|mut device| std::io::Read::read_exact(&mut device, &mut bytes))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of the system that answers what the list says, and remembers what it was asked.
    struct Script {
        answers: std::vec::IntoIter<Result<usize, Errno>>,
        asked: Vec<(u64, usize)>,
    }

    impl Script {
        fn new(answers: Vec<Result<usize, Errno>>) -> Self {
            Self { answers: answers.into_iter(), asked: Vec::new() }
        }

        fn answer(&mut self, offset: u64, len: usize) -> Result<usize, Errno> {
            self.asked.push((offset, len));
            self.answers.next().expect("one call too many")
        }
    }

    #[test]
    fn short_and_interrupted_writes_go_on_where_they_stopped() {
        let mut script = Script::new(vec![Ok(3), Err(Errno::INTR), Ok(1), Ok(6)]);
        let mut seen = Vec::new();
        let done = write_pieces(100, b"0123456789", |offset, piece| {
            let count = script.answer(offset, piece.len())?;
            seen.extend_from_slice(&piece[..count]);
            Ok(count)
        });
        assert!(done.is_ok());
        assert_eq!(seen, b"0123456789");
        assert_eq!(script.asked, [(100, 10), (103, 7), (103, 7), (104, 6)]);
    }

    #[test]
    fn a_write_that_fails_says_how_far_it_came() {
        let mut script = Script::new(vec![Ok(4), Err(Errno::NOSPC)]);
        let write = |offset, piece: &[u8]| script.answer(offset, piece.len());
        let stopped = write_pieces(0, &[0; 10], write).expect_err("it stopped");
        assert_eq!((stopped.done, stopped.errno), (4, Errno::NOSPC));
        assert_eq!(script.asked.len(), 2);
    }

    #[test]
    fn a_write_that_takes_nothing_ends() {
        let stopped = write_pieces(0, &[0; 10], |_, _| Ok(0)).expect_err("it stopped");
        assert_eq!((stopped.done, stopped.errno), (0, Errno::IO));
    }

    #[test]
    fn nothing_is_written_without_a_call() {
        assert!(write_pieces(0, &[], |_, _| unreachable!()).is_ok());
    }

    #[test]
    fn short_and_interrupted_reads_go_on_until_the_end() {
        let source = b"0123456789";
        let mut limits = Script::new(vec![Ok(2), Err(Errno::INTR), Ok(5), Ok(0)]);
        let mut buf = [b'-'; 10];
        let count = read_pieces(50, &mut buf, |offset, piece| {
            let count = limits.answer(offset, piece.len())?;
            let start = (offset - 50) as usize;
            piece[..count].copy_from_slice(&source[start..start + count]);
            Ok(count)
        });
        assert_eq!(count, Ok(7));
        assert_eq!(&buf, b"0123456---");
        assert_eq!(limits.asked, [(50, 10), (52, 8), (52, 8), (57, 3)]);
    }

    #[test]
    fn a_read_that_fails_says_so() {
        assert_eq!(read_pieces(0, &mut [0; 4], |_, _| Err(Errno::IO)), Err(Errno::IO));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn no_call_moves_more_than_a_piece() {
        // Zeros that nobody touches take no memory.
        let mut large = vec![0; PIECE + 5];
        let mut asked = Vec::new();
        let written = write_pieces(7, &large, |offset, piece| {
            asked.push((offset, piece.len()));
            Ok(piece.len())
        });
        assert!(written.is_ok());
        let read = read_pieces(7, &mut large, |offset, piece| {
            asked.push((offset, piece.len()));
            Ok(piece.len())
        });
        assert_eq!(read, Ok(PIECE + 5));
        let both = [(7, PIECE), (7 + PIECE as u64, 5)];
        assert_eq!(asked, [both, both].concat());
    }

    #[test]
    fn randomness_differs() {
        let (first, second) = (entropy().expect("random"), entropy().expect("random"));
        assert_ne!(first, second);
        assert!(first != 0 && second != 0);
    }
}
