//! The append buffer of a region: one writer appends, many readers share the bytes by pointer.
//!
//! A [`Tail`] is the writer's end. It has a length and a capacity, both in bytes, and lies behind
//! the lock of its region. A [`TailView`] is a reader's end: it needs no lock, copies nothing, and
//! goes on seeing what it saw while the writer appends behind that. A byte that a view can see
//! never changes: whatever would change one (overwrite, truncate, clear) happens in place only
//! while no view exists, and otherwise in a new buffer, which leaves the old one to its views.
//!
//! A view kept for later also serves bytes that were pushed since. Every other change may give the
//! tail another buffer: whoever makes one gives up the view that is handed to new readers.
//!
//! It is *not* a queue and *not* a list of pieces: the bytes are one slice, and nothing is taken
//! out at the front. Nor does it decide when to grow or to drain.
//!
//! # Why the unsafe code here is sound
//!
//! * **T1** A buffer has one writer at most. A `Tail` is not `Clone`, a `TailView` does not write,
//!   and no other value refers to a `Buffer`; writing takes `&mut Tail`.
//! * **T2** The first `published` bytes were written before `published` was stored (Release), and
//!   whoever makes a slice loads `published` first (Acquire). So what is in a slice was
//!   initialized, and its writing happened before.
//! * **T3** While the `Arc` is shared, writes go only to places at or past `published`, which no
//!   slice covers, and `published` only rises. Where bytes below it change, or it falls,
//!   `Arc::get_mut` has shown that no view exists, and `&mut Tail` that no slice of the tail does.
//! * **T4** `published <= capacity`, and `capacity` bytes are allocated for as long as the buffer
//!   lives: the vector is never resized once it is in a buffer.

use crate::error::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The writer's end of an append buffer. See the [module](self). As large as one pointer.
#[derive(Default)]
pub(crate) struct Tail {
    buffer: Option<Arc<Buffer>>,
}

/// A reader's end of an append buffer: sees the bytes published in it, now and later.
#[derive(Clone, Default)]
pub(crate) struct TailView {
    buffer: Option<Arc<Buffer>>,
}

struct Buffer {
    /// How many bytes are written and may be read.
    published: AtomicUsize,
    /// How many bytes there are, at most as many as `bytes` has room for.
    capacity: usize,
    /// Only room: its length stays 0.
    bytes: Vec<UnsafeCell<MaybeUninit<u8>>>,
}

// SAFETY: threads that share a buffer read only its published bytes, which do not change while it
// is shared (T2, T3); the one thread that writes to others is the only one to touch those (T1, T3).
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer that holds `bytes`, or an error when memory is short. (The few bytes of the counts
    /// themselves cannot be asked for with an error, and abort.)
    fn new(capacity: usize, bytes: &[u8]) -> Result<Arc<Self>> {
        let mut room = Vec::new();
        room.try_reserve_exact(capacity)
            .map_err(|_| Error::OutOfMemory { requested: capacity as u64 })?;
        let mut buffer = Self { published: AtomicUsize::new(0), capacity, bytes: room };
        buffer.write_alone(0, bytes);
        Ok(Arc::new(buffer))
    }

    fn start(&self) -> *mut u8 {
        self.bytes.as_ptr().cast_mut().cast()
    }

    /// The published bytes. The caller sees to it that they do not change while the slice lives: it
    /// holds the `Arc` of a view, or borrows the tail.
    fn published(&self) -> &[u8] {
        let len = self.published.load(Ordering::Acquire);
        // SAFETY: `len` bytes are inside the allocation (T4) and initialized (T2); they stay as
        // they are while a view or a borrow of the tail lives (T3). The pointer is never null.
        unsafe { slice::from_raw_parts(self.start(), len) }
    }

    /// Writes at `at`, and publishes what now lies behind the published bytes. For a buffer that
    /// nobody else has. Writes no more than there is room for.
    fn write_alone(&mut self, at: usize, data: &[u8]) {
        let at = at.min(*self.published.get_mut());
        let data = data.get(..self.capacity - at).unwrap_or(data);
        // SAFETY: `at <= published <= capacity` and `at + data.len() <= capacity` (T4). `&mut self`
        // says that no slice of the buffer lives (T3), so `data` is elsewhere.
        unsafe { self.start().add(at).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        let published = self.published.get_mut();
        *published = (at + data.len()).max(*published);
    }
}

impl Tail {
    /// An empty tail without a buffer. Allocates nothing.
    pub(crate) const fn new() -> Self {
        Self { buffer: None }
    }

    /// How many bytes it holds.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it holds no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it can hold without growing.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.capacity)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.published())
    }

    /// A view of the bytes, one reference count. As long as it, or a clone of it, lives, what
    /// changes bytes costs a copy.
    pub(crate) fn view(&self) -> TailView {
        TailView { buffer: self.buffer.clone() }
    }

    /// Appends as much of `data` as the [capacity](Self::capacity) has room for, and answers how
    /// many bytes that were. Views see them once this has returned.
    pub(crate) fn push(&mut self, data: &[u8]) -> usize {
        let Some(buffer) = &self.buffer else {
            return 0;
        };
        // Only this writer stores, so its own load needs no order.
        let len = buffer.published.load(Ordering::Relaxed);
        let data = data.get(..buffer.capacity - len).unwrap_or(data);
        // SAFETY: `len + data.len() <= capacity` (T4). The place is past `published`, where nobody
        // reads (T3) and nobody else writes (T1); so `data`, a slice, is elsewhere.
        unsafe { buffer.start().add(len).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        buffer.published.store(len + data.len(), Ordering::Release);
        data.len()
    }

    /// Makes the capacity at least `capacity`, by a new buffer that the bytes are copied into;
    /// views keep the old one.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the tail is then as it was.
    pub(crate) fn grow(&mut self, capacity: usize) -> Result<()> {
        if capacity > self.capacity() {
            self.buffer = Some(Buffer::new(capacity, self.bytes())?);
        }
        Ok(())
    }

    /// Puts `data` in the place of the bytes from `at` on; in a new buffer if a view exists.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if the range does not lie inside the bytes, [`Error::OutOfMemory`] if a
    /// new buffer is needed and not to be had. The tail is then as it was.
    pub(crate) fn overwrite(&mut self, at: usize, data: &[u8]) -> Result<()> {
        let (end, len) = (at.saturating_add(data.len()), self.len());
        if end > len {
            return Err(Error::TooLarge {
                what: "the end of an overwrite in a tail",
                requested: end as u64,
                limit: len as u64,
            });
        }
        if data.is_empty() {
            return Ok(());
        }
        if let Some(buffer) = self.buffer.as_mut().and_then(Arc::get_mut) {
            buffer.write_alone(at, data);
            return Ok(());
        }
        let mut copy = Buffer::new(self.capacity(), self.bytes())?;
        if let Some(buffer) = Arc::get_mut(&mut copy) {
            buffer.write_alone(at, data);
        }
        self.buffer = Some(copy);
        Ok(())
    }

    /// Whether no view shares the buffer.
    pub(crate) fn is_sole(&mut self) -> bool {
        self.buffer.as_mut().is_none_or(|buffer| Arc::get_mut(buffer).is_some())
    }

    /// Makes sure that no view shares the buffer, so that the next [`overwrite`](Self::overwrite)
    /// needs no memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if a new buffer is needed and not to be had.
    pub(crate) fn unshare(&mut self) -> Result<()> {
        if self.buffer.as_mut().is_some_and(|buffer| Arc::get_mut(buffer).is_none()) {
            self.buffer = Some(Buffer::new(self.capacity(), self.bytes())?);
        }
        Ok(())
    }

    /// Makes the length at most `len`, and keeps the capacity; in a new buffer if a view exists.
    /// With a `len` of 0 it is [`clear`](Self::clear), which cannot fail.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if a new buffer is needed and not to be had. The tail is then as it
    /// was.
    pub(crate) fn truncate(&mut self, len: usize) -> Result<()> {
        let Some(rest) = self.bytes().get(..len) else {
            return Ok(());
        };
        if rest.len() == self.len() {
            return Ok(());
        }
        if rest.is_empty() {
            self.clear();
            return Ok(());
        }
        if let Some(buffer) = self.buffer.as_mut().and_then(Arc::get_mut) {
            *buffer.published.get_mut() = len;
            return Ok(());
        }
        self.buffer = Some(Buffer::new(self.capacity(), self.bytes().get(..len).unwrap_or(&[]))?);
        Ok(())
    }

    /// Makes it empty. The buffer is kept for reuse if no view has it, and otherwise left to them:
    /// the capacity is 0 then.
    pub(crate) fn clear(&mut self) {
        match self.buffer.as_mut().and_then(Arc::get_mut) {
            Some(buffer) => *buffer.published.get_mut() = 0,
            None => self.buffer = None,
        }
    }

    /// Takes everything out, the buffer as well, and leaves a tail as [`new`](Self::new) makes it.
    /// Views see no difference. For draining outside the lock: the tail taken can be
    /// [cleared](Self::clear) and put back afterwards to use its buffer again.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::take(self)
    }
}

impl TailView {
    /// The bytes of the range, if all of them are published.
    ///
    /// They are the tail's bytes as of the moment the caller learned, under the tail's lock, that
    /// they exist, provided that nothing but [`push`](Tail::push) had been called since the view
    /// was made.
    pub(crate) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.buffer.as_ref().map_or(&[][..], |buffer| buffer.published()).get(range)
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tail({} of {} bytes)", self.len(), self.capacity())
    }
}

impl fmt::Debug for TailView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let published = self.buffer.as_ref().map_or(0, |buffer| buffer.published().len());
        write!(f, "TailView({published} bytes)")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn filled(capacity: usize, bytes: &[u8]) -> Tail {
        let mut tail = Tail::new();
        tail.grow(capacity).expect("memory");
        assert_eq!(tail.push(bytes), bytes.len());
        tail
    }

    /// Whether the tail still has the buffer of the view.
    fn shared(view: &TailView, tail: &Tail) -> bool {
        matches!((&view.buffer, &tail.buffer), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }

    #[test]
    fn an_empty_tail_takes_nothing() {
        let mut tail = Tail::new();
        assert_eq!((tail.len(), tail.capacity(), tail.push(b"x")), (0, 0, 0));
        assert_eq!(tail.view().get(0..0), Some(&[][..]));
        assert_eq!(tail.view().get(0..1), None);
        tail.clear();
        assert_eq!((tail.truncate(0), tail.truncate(5)), (Ok(()), Ok(())));
        assert!(tail.take().is_empty());
    }

    #[test]
    fn push_stops_at_the_capacity() {
        let mut tail = filled(4, b"abc");
        assert_eq!((tail.capacity(), tail.push(b"defg")), (4, 1));
        assert_eq!((tail.push(b"x"), tail.bytes()), (0, &b"abcd"[..]));
    }

    #[test]
    fn a_view_sees_what_was_published_and_nothing_past_it() {
        let mut tail = filled(8, b"abc");
        let view = tail.view();
        assert_eq!((view.get(1..3), view.get(1..4)), (Some(&b"bc"[..]), None));
        let held = view.get(0..3);
        tail.push(b"de");
        assert_eq!((held, view.get(0..5)), (Some(&b"abc"[..]), Some(&b"abcde"[..])));
        assert!(shared(&view, &tail));
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = 3..2;
        assert_eq!((view.get(reversed), view.get(9..9)), (None, None));
    }

    #[test]
    fn growing_leaves_the_old_buffer_to_its_views() {
        let mut tail = filled(4, b"abcd");
        let view = tail.view();
        tail.grow(2).expect("nothing to do");
        assert!(shared(&view, &tail) && tail.capacity() == 4);
        tail.grow(8).expect("memory");
        tail.push(b"ef");
        assert_eq!((tail.bytes(), tail.capacity()), (&b"abcdef"[..], 8));
        assert_eq!((view.get(0..4), view.get(0..5)), (Some(&b"abcd"[..]), None));
        assert!(!shared(&view, &tail));
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        let mut tail = filled(4, b"abcd");
        let error = tail.grow(usize::MAX);
        assert_eq!(error, Err(Error::OutOfMemory { requested: usize::MAX as u64 }));
        assert_eq!((tail.bytes(), tail.capacity()), (&b"abcd"[..], 4));
    }

    #[test]
    fn without_views_changes_are_made_in_place() {
        let mut tail = filled(8, b"abcdef");
        let place = tail.bytes().as_ptr();
        drop(tail.view());
        tail.overwrite(2, b"XYZ").expect("in range");
        assert_eq!(tail.bytes(), b"abXYZf");
        tail.truncate(4).expect("in place");
        assert_eq!((tail.bytes(), tail.capacity()), (&b"abXY"[..], 8));
        tail.clear();
        assert_eq!((tail.len(), tail.capacity()), (0, 8));
        tail.push(b"again");
        let mut taken = tail.take();
        assert_eq!((tail.capacity(), taken.bytes()), (0, &b"again"[..]));
        taken.clear();
        tail = taken;
        tail.push(b"!");
        assert_eq!((tail.bytes(), tail.bytes().as_ptr()), (&b"!"[..], place));
    }

    #[test]
    fn what_a_view_sees_never_changes() {
        let mut tail = filled(8, b"abcdef");
        let first = tail.view();
        tail.overwrite(0, b"A").expect("in range");
        let second = tail.view();
        assert!(!shared(&first, &tail) && shared(&second, &tail));
        tail.truncate(3).expect("memory");
        tail.push(b"xyz");
        let third = tail.view();
        tail.clear();
        assert_eq!((tail.len(), tail.capacity()), (0, 0));
        assert_eq!(first.get(0..6), Some(&b"abcdef"[..]));
        assert_eq!(second.get(0..6), Some(&b"Abcdef"[..]));
        assert_eq!(third.get(0..6), Some(&b"Abcxyz"[..]));
    }

    #[test]
    fn a_copy_keeps_the_capacity() {
        let mut tail = filled(16, b"abcdef");
        let _view = tail.view();
        tail.overwrite(0, b"A").expect("in range");
        assert_eq!((tail.capacity(), tail.push(b"0123456789!")), (16, 10));
        let _view = tail.view();
        tail.truncate(1).expect("memory");
        assert_eq!((tail.capacity(), tail.bytes()), (16, &b"A"[..]));
    }

    #[test]
    fn an_overwrite_stays_inside_the_bytes() {
        let mut tail = filled(8, b"abc");
        for (at, data) in [(2, &b"xy"[..]), (4, b""), (usize::MAX, b"xy")] {
            let error = tail.overwrite(at, data);
            assert!(matches!(error, Err(Error::TooLarge { limit: 3, .. })), "{error:?}");
        }
        assert_eq!((tail.overwrite(3, b""), tail.bytes()), (Ok(()), &b"abc"[..]));
    }

    #[test]
    fn a_tail_is_one_pointer_and_crosses_threads() {
        fn crosses_threads<T: Send + Sync>() {}
        crosses_threads::<(Tail, TailView)>();
        assert_eq!(size_of::<Tail>(), size_of::<usize>());
    }

    #[test]
    fn readers_on_other_threads_see_only_whole_bytes() {
        const LEN: usize = if cfg!(miri) { 64 } else { 20_000 };
        let byte = |at: usize| (at % 251) as u8 + 1;
        let mut tail = filled(LEN, b"");
        let view = tail.view();
        let (told, learned) = mpsc::channel();
        thread::scope(|scope| {
            // One reader polls what is published; one asks for what it was told.
            let polled = view.clone();
            scope.spawn(move || {
                let mut seen = 0;
                while seen < LEN {
                    match polled.get(0..seen + 1) {
                        Some(bytes) => {
                            assert_eq!(bytes.last(), Some(&byte(seen)));
                            seen += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
            });
            scope.spawn(move || {
                for (view, len) in learned {
                    let view: TailView = view;
                    let bytes = view.get(0..len).expect("published");
                    assert!(bytes.iter().enumerate().all(|(at, &b)| b == byte(at)));
                }
            });
            for at in 0..LEN {
                assert_eq!(tail.push(&[byte(at)]), 1);
                if at % (LEN / 16) == 0 {
                    told.send((tail.view(), at + 1)).expect("the reader lives");
                }
            }
            drop(told);
        });
        assert!(tail.bytes().iter().enumerate().all(|(at, &b)| b == byte(at)));
    }

    #[test]
    fn readers_keep_their_bytes_while_the_writer_changes_its_own() {
        const ROUNDS: u8 = if cfg!(miri) { 8 } else { 200 };
        let mut tail = filled(64, &[0; 32]);
        let (give, take) = mpsc::channel::<(TailView, usize, u8)>();
        thread::scope(|scope| {
            scope.spawn(move || {
                for (view, len, value) in take {
                    assert_eq!(view.get(0..len).map(|b| b.iter().all(|&b| b == value)), Some(true));
                }
            });
            for value in 1..=ROUNDS {
                tail.truncate(32 - usize::from(value % 7)).expect("memory");
                let len = tail.len();
                tail.overwrite(0, &std::vec![value; len]).expect("in range");
                tail.push(&[value; 3]);
                give.send((tail.view(), tail.len(), value)).expect("the reader lives");
                tail.push(&[value.wrapping_add(1); 9]);
            }
            drop(give);
        });
    }
}
