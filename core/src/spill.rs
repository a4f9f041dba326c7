//! Writing bytes to their places: what a region's tail cannot hold, and pages out of memory.
//!
//! A write to the end of a region that passes its tail goes to the file in large, aligned pieces,
//! while only the region's I/O lock is held, and becomes visible as one change when it is done.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::Base;
use crate::error::Result;
use crate::platform::Platform;
use crate::region::Region;
use crate::run::Run;
use crate::state::Changed;
use crate::tail::Tail;

/// A tail drains in pieces that end at multiples of this, in bytes of the region.
pub(crate) const PIECE: u64 = 64 << 10;

impl<P: Platform> Region<P> {
    /// Appends bytes that do not fit into the tail: whole pieces go to their places, the rest into
    /// a new tail. Answers `false` if the region changed so that the caller has to look again.
    pub(crate) fn spill(&self, data: &[u8], appender: bool) -> Result<bool> {
        let inner = &*self.inner;
        let base = &inner.base;
        let n = data.len() as u64;
        let io = self.lock()?.live(base).io.clone();
        let _io = io.lock();
        let mut state = self.lock_for_writing(appender)?;
        let at = state.len;
        let end = at.saturating_add(n);
        let run = state.run;
        let tail_base = state.live(base).tail_base;
        if run.is_empty() || end > base.page_offset(run.pages) || !self.overflows(tail_base, end, n)
        {
            return Ok(false);
        }
        // Everything before `placed` goes to its place now; `from_tail` of that is in the tail.
        let mut placed = end & !(PIECE - 1);
        if placed <= tail_base {
            placed = end & !(base.page_size() - 1);
        }
        if placed <= tail_base {
            return Ok(false);
        }
        let start = at.max(tail_base);
        let from_tail = if at > tail_base { placed.min(base.page_up(at)) } else { tail_base };
        let live = state.live(base);
        if from_tail > start {
            // The page in which the region ends is completed in the tail's buffer. Nobody sees
            // these bytes, because the length does not say that they exist.
            let head = (from_tail - start) as usize;
            let before = live.tail.capacity();
            live.tail.grow((from_tail - tail_base) as usize)?;
            base.add_memory(live.tail.capacity() - before);
            live.tail.push(data.get(..head).unwrap_or_default());
        }
        let view = live.tail.view();
        live.spilling = true;
        live.limit = 0;
        let cuts = live.visited;
        // Keeps the pages from being given away if the region is removed meanwhile.
        let extent = live.extent.clone();
        drop(state);

        let direct = data.get((from_tail.max(start) - at) as usize..).unwrap_or_default();
        let direct = direct.get(..placed.saturating_sub(from_tail.max(start)) as usize);
        let in_tail = view.get(0..(from_tail - tail_base) as usize).unwrap_or_default();
        let written = write_pieces(base, run, tail_base, in_tail).and_then(|()| {
            write_pieces(base, run, from_tail.max(start), direct.unwrap_or_default())
        });
        drop(view);

        let mut state = self.lock()?;
        let live = state.live(base);
        live.spilling = false;
        let _extent = extent;
        if let Err(error) = written {
            // What was in the tail stays in memory, and dirty: nothing is lost.
            live.move_tail_to_pages(base, at);
            return Err(error);
        }
        inner.touch(self.index, &mut state);
        // All that can fail comes before anything changes: memory, and the bytes of a page.
        let live = state.live(base);
        let captured = live.visited != cuts;
        let paged = live.tail_base.min(end).saturating_sub(at);
        let rest = usize::try_from(end.saturating_sub(placed)).unwrap_or(usize::MAX);
        live.invalidate_snap();
        let reuse =
            !captured && at <= placed && live.tail.is_sole() && live.tail.capacity() >= rest;
        let mut fresh = Tail::new();
        let ready = if reuse { Ok(()) } else { fresh.grow(rest) };
        let ready = ready.and_then(|()| match paged {
            0 => Ok(()),
            paged => state.prepare(base, at, paged),
        });
        let live = state.live(base);
        if let Err(error) = ready {
            live.move_tail_to_pages(base, at);
            return Err(error);
        }
        // A cut that came meanwhile has moved the old tail to the page map, and the first byte that
        // may be in place with it. What was written below that is of no use then, and harmless.
        let mut old = live.tail.take();
        if reuse {
            old.clear();
            fresh = old;
        } else {
            base.add_memory(fresh.capacity());
            base.sub_memory(old.capacity());
            if !captured && at > placed {
                fresh.push(old.bytes().get((placed - tail_base) as usize..).unwrap_or_default());
            }
        }
        let (in_pages, behind) = data.split_at(paged as usize);
        if paged > 0 {
            state.put(base, at, in_pages);
        }
        let live = state.live(base);
        live.tail_base = live.tail_base.max(placed);
        let known = live.tail_base.max(at).min(end) - at - paged;
        live.tail = fresh;
        live.tail.push(behind.get(known as usize..).unwrap_or_default());
        live.changed.add(Changed::LEN);
        state.len = end;
        let capacity = base.page_offset(state.run.pages);
        let live = state.live(base);
        if end >= live.tail_base {
            let room = live.tail_base + live.tail.capacity() as u64;
            live.limit = room.min(next_piece(live.tail_base)).min(capacity);
        }
        Ok(true)
    }
}

/// The end of the piece that a tail starting at `tail_base` may fill.
pub(crate) fn next_piece(tail_base: u64) -> u64 {
    (tail_base | (PIECE - 1)) + 1
}

/// Writes bytes of a region to their place, in pieces that end at multiples of [`PIECE`] of the
/// file: larger ones make the page cache use larger units, which later small writes pay for.
pub(crate) fn write_pieces<P: Platform>(
    base: &Base<P>,
    run: Run,
    offset: u64,
    mut bytes: &[u8],
) -> Result<()> {
    let mut place = base.page_offset(run.start) + offset;
    while !bytes.is_empty() {
        let n = (next_piece(place) - place).min(bytes.len() as u64) as usize;
        let (now, rest) = bytes.split_at(n);
        base.platform.write(place, now)?;
        place += n as u64;
        bytes = rest;
    }
    Ok(())
}

/// Writes pages, given by their places in the file in ascending order, neighbours together, and each
/// that is not whole in memory with zeros behind.
pub(crate) fn write_pages<P: Platform>(base: &Base<P>, pages: &[(u64, Arc<[u8]>)]) -> Result<()> {
    let mut piece: Vec<u8> = Vec::new();
    let mut next = None;
    let mut start = 0;
    for (page, bytes) in pages {
        if next != Some(*page) || piece.len() as u64 >= PIECE {
            if !piece.is_empty() {
                base.platform.write(base.page_offset(start), &piece)?;
            }
            piece.clear();
            start = *page;
        }
        piece.extend_from_slice(bytes);
        piece.resize(piece.len().next_multiple_of(base.page_size() as usize), 0);
        next = Some(page + 1);
    }
    if !piece.is_empty() {
        base.platform.write(base.page_offset(start), &piece)?;
    }
    Ok(())
}
