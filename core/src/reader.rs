//! Readers: one region, frozen at the moment the reader was made, for as long as it lives.
//!
//! A [`Reader`] shares bytes with the region instead of copying them: pages in place come from the
//! map where the platform has one, pages in memory and the tail from the region's own buffers,
//! which are copied by whoever changes them while a reader looks (I11). It holds no lock, so that
//! it blocks nobody and nobody blocks it.
//!
//! This module has the one place of the store that turns a mapping into a slice: [`Snap::mapped`].

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::base::Base;
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::page_map::PageMap;
use crate::platform::{Mapping, Platform};
use crate::run::Run;
use crate::state::{Live, Page, State};
use crate::tail::TailView;

/// The bytes that one or more readers see, but for the length, which each reader has of its own.
pub(crate) struct Snap<P: Platform> {
    base: Arc<Base<P>>,
    /// Keeps the extent's pages from being used for anything else (I6, I10).
    _extent: Option<Arc<Extent>>,
    run: Run,
    map: Option<Arc<P::Mapping>>,
    pages: PageMap<Page>,
    tail: TailView,
    tail_base: u64,
    /// No byte at or past this one is read from its place.
    in_place_end: u64,
    /// Bytes before this one are all in place.
    plain: u64,
}

/// Where a byte is, and how many follow it at the same kind of place.
enum Piece<'a> {
    Memory(&'a [u8]),
    InPlace(u64),
}

impl<P: Platform> Snap<P> {
    fn new(base: &Arc<Base<P>>, live: &Live<P>, run: Run, len: u64) -> Self {
        let tail = (live.tail.view(), live.tail_base);
        Self::with(base, (run, len), live.extent.clone(), live.pages.clone(), tail)
    }

    fn with(
        base: &Arc<Base<P>>,
        (run, len): (Run, u64),
        extent: Option<Arc<Extent>>,
        pages: PageMap<Page>,
        (tail, tail_base): (TailView, u64),
    ) -> Self {
        let in_place_end = tail_base.min(base.page_up(len));
        let end = base.page_offset(run.start) + in_place_end;
        let first_in_memory = pages
            .iter()
            .find(|(_, page)| page.bytes.is_some())
            .map_or(u64::MAX, |(number, _)| base.page_offset(number));
        Self {
            base: base.clone(),
            _extent: extent,
            run,
            map: if in_place_end > 0 && !run.is_empty() { base.map(end) } else { None },
            pages,
            tail,
            tail_base,
            in_place_end,
            plain: in_place_end.min(first_in_memory),
        }
    }

    /// The region as a cut captured it: nothing is in a tail then.
    pub(crate) fn of_capture(base: &Arc<Base<P>>, capture: &Capture<P>) -> Arc<Self> {
        let tail_base = base.page_up(capture.len);
        Arc::new(Self::with(
            base,
            (capture.run, capture.len),
            capture.extent.clone(),
            capture.all.clone(),
            (TailView::default(), tail_base),
        ))
    }

    /// Whether a reader of this snapshot may look at the page's place.
    pub(crate) fn maps(&self, page: u64) -> bool {
        self.base.page_offset(page) < self.in_place_end && self.in_memory(page).is_none()
    }

    pub(crate) fn in_memory(&self, page: u64) -> Option<&Arc<[u8]>> {
        self.pages.get(page)?.bytes.as_ref()
    }

    /// Bytes of the region that are in place, as a slice of the map. The caller knows that no page
    /// of the range is in memory.
    fn mapped(&self, range: Range<u64>) -> Option<&[u8]> {
        let map = self.map.as_deref()?;
        let start = self.base.page_offset(self.run.start) + range.start;
        let len = range.end - range.start;
        if range.end > self.in_place_end || start + len > map.len() as u64 {
            return None;
        }
        // SAFETY: `start + len` lies inside the mapping, which `self` keeps alive, and below the
        // platform's length, because these pages were written (I7) and a file is never cut below
        // an extent that a reader pins (I10). Nobody writes to these bytes while `self` lives: the
        // store asks `Snap::maps` before it writes to any place (I11), the run is not given to
        // anybody else while `self` holds the extent (I6), and the platform's lock keeps other
        // writers out while the mapping lives.
        Some(unsafe { core::slice::from_raw_parts(map.as_ptr().add(start as usize), len as usize) })
    }

    /// What is at `offset`, and for how many bytes, not past `end`.
    #[cold]
    #[inline(never)]
    fn piece(&self, offset: u64, end: u64) -> Piece<'_> {
        if offset >= self.tail_base {
            let from = (offset - self.tail_base) as usize;
            let to = (end - self.tail_base) as usize;
            // I7: a reader's length never passes what was published in the tail it shares.
            return Piece::Memory(self.tail.get(from..to).unwrap_or_default());
        }
        let number = self.base.page_of(offset);
        let start = self.base.page_offset(number);
        if let Some(bytes) = self.in_memory(number) {
            let to = (end - start).min(self.base.page_size()) as usize;
            return Piece::Memory(bytes.get((offset - start) as usize..to).unwrap_or_default());
        }
        let next = self
            .pages
            .range_from(number + 1)
            .take_while(|(number, _)| self.base.page_offset(*number) < end)
            .find(|(_, page)| page.bytes.is_some())
            .map_or(self.tail_base, |(number, _)| self.base.page_offset(number));
        Piece::InPlace(next.min(self.tail_base).min(end) - offset)
    }

    /// Fills `buf` with the bytes at `offset`.
    pub(crate) fn read_into(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let end = offset + buf.len() as u64;
            let n = match self.piece(offset, end) {
                Piece::Memory(bytes) => {
                    let n = bytes.len().min(buf.len());
                    assert!(n > 0, "I7: a reader's range passes what was published");
                    buf.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                    n
                }
                Piece::InPlace(n) => {
                    let (now, _) = buf.split_at_mut(n as usize);
                    match self.mapped(offset..offset + n) {
                        Some(bytes) => now.copy_from_slice(bytes),
                        None => self.base.read(self.run, offset, now)?,
                    }
                    n as usize
                }
            };
            offset += n as u64;
            buf = buf.split_at_mut(n).1;
        }
        Ok(())
    }

    /// The bytes of the range as one slice, where they lie together in memory.
    fn slice(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.end <= self.plain {
            return self.mapped(range);
        }
        if range.is_empty() {
            return Some(&[]);
        }
        let len = range.end - range.start;
        match self.piece(range.start, range.end) {
            Piece::Memory(bytes) => (bytes.len() as u64 == len).then_some(bytes),
            Piece::InPlace(n) if n == len => self.mapped(range),
            Piece::InPlace(_) => None,
        }
    }
}

impl<P: Platform> State<P> {
    /// The snapshot of the region as it is now, shared with the readers made since it last changed.
    pub(crate) fn snap(&mut self, base: &Arc<Base<P>>) -> Arc<Snap<P>> {
        let (run, len) = (self.run, self.len);
        let live = self.live(base);
        if let Some(snap) = &live.snap {
            return snap.clone();
        }
        let snap = Arc::new(Snap::new(base, live, run, len));
        live.snap = Some(snap.clone());
        snap
    }
}

/// A snapshot of one region, frozen at the moment it was made.
///
/// It may outlive the region's handle, the region and the store (the file stays locked as long as
/// it lives). Cloning it is cheap. Making it costs a lock of the region and a count, if the region
/// did not change since the last reader was made; else an allocation more. While it lives, the
/// pages it sees are not given to anybody else, so that a forgotten reader of a removed region
/// keeps its space from coming back.
///
/// ```
/// # use allod_mem::MemPlatform;
/// # let store = allod_core::Options::new().open(MemPlatform::new())?;
/// let region = store.create_region("greeting")?;
/// region.append(b"hello, world")?;
/// let reader = region.reader()?;
/// region.replace(b"gone")?;
/// assert_eq!(&*reader.read(7, 5)?, b"world");
/// # Ok::<(), allod_core::Error>(())
/// ```
pub struct Reader<P: Platform> {
    snap: Arc<Snap<P>>,
    id: u64,
    len: u64,
    plain: u64,
}

impl<P: Platform> Clone for Reader<P> {
    fn clone(&self) -> Self {
        Self { snap: self.snap.clone(), ..*self }
    }
}

impl<P: Platform> core::fmt::Debug for Reader<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader").field("id", &self.id).field("len", &self.len).finish()
    }
}

impl<P: Platform> Reader<P> {
    pub(crate) fn new(snap: Arc<Snap<P>>, id: u64, len: u64) -> Self {
        let plain = if snap.map.is_some() { snap.plain.min(len) } else { 0 };
        Self { snap, id, len, plain }
    }

    /// The region's length in bytes when the reader was made.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the region was empty when the reader was made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The id of the region.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn check(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(offset..end),
            _ => Err(Error::OutOfRange { id: self.id, offset, len, region_len: self.len }),
        }
    }

    /// The `len` bytes at `offset` without copying them, if they lie together: always where the
    /// platform maps and the region was at rest; else unless the range crosses the edge between
    /// bytes in place and bytes in memory, or is in place on a platform without a map.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    #[inline]
    pub fn slice(&self, offset: u64, len: u64) -> Result<Option<&[u8]>> {
        let range = self.check(offset, len)?;
        if range.end <= self.plain {
            return Ok(self.snap.mapped(range));
        }
        Ok(self.snap.slice(range))
    }

    /// The `len` bytes at `offset`: borrowed where [`slice`](Self::slice) can, copied elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`]; [`Error::Platform`] if the platform has no map and reading fails;
    /// [`Error::OutOfMemory`].
    #[inline]
    pub fn read(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.slice(offset, len)? {
            return Ok(Cow::Borrowed(bytes));
        }
        let size = usize::try_from(len).map_err(|_| Error::OutOfMemory { requested: len })?;
        let mut bytes = self.snap.base.buffer(size)?;
        self.snap.read_into(offset, &mut bytes)?;
        Ok(Cow::Owned(Vec::from(bytes)))
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); what is in `buf` after an error is undefined.
    pub fn read_into(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.snap.read_into(offset, buf)
    }

    /// All bytes of the region.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_all(&self) -> Result<Cow<'_, [u8]>> {
        self.read(0, self.len)
    }

    /// The bytes of a range piece by piece, in order: each piece borrowed where it can be, and
    /// never longer than 1 MiB where it must be copied.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] at once; what [`read`](Self::read) says for each piece.
    pub fn chunks(&self, offset: u64, len: u64) -> Result<Chunks<'_, P>> {
        let range = self.check(offset, len)?;
        Ok(Chunks { reader: self, range })
    }

    /// A cursor over the bytes, for `std::io`.
    #[cfg(feature = "std")]
    pub fn cursor(&self) -> Cursor<P> {
        Cursor { reader: self.clone(), position: 0 }
    }
}

/// The pieces of a range of a [`Reader`]; see [`Reader::chunks`].
#[derive(Debug)]
pub struct Chunks<'a, P: Platform> {
    reader: &'a Reader<P>,
    range: Range<u64>,
}

impl<'a, P: Platform> Iterator for Chunks<'a, P> {
    type Item = Result<Cow<'a, [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let Range { start, end } = self.range;
        let snap = &self.reader.snap;
        let n = match snap.piece(start, end) {
            Piece::Memory(bytes) => bytes.len() as u64,
            // A 32-bit machine cannot hold a slice of more.
            Piece::InPlace(n) if snap.map.is_some() => n.min(1 << 30),
            Piece::InPlace(n) => n.min(1 << 20),
        };
        assert!(n > 0, "I7: a reader's range passes what was published");
        self.range.start += n;
        Some(self.reader.read(start, n))
    }
}

/// A position in a [`Reader`], as `std::io` likes it. It owns a clone of the reader.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct Cursor<P: Platform> {
    reader: Reader<P>,
    position: u64,
}

#[cfg(feature = "std")]
impl<P: Platform> std::io::Read for Cursor<P> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = self.reader.len.saturating_sub(self.position);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let (now, _) = buf.split_at_mut(n);
        self.reader.snap.read_into(self.position, now)?;
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(feature = "std")]
impl<P: Platform> std::io::Seek for Cursor<P> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        use std::io::SeekFrom;
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.reader.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        match target {
            Some(at) => {
                self.position = at;
                Ok(at)
            }
            None => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "a position before the start of the region",
            )),
        }
    }
}
