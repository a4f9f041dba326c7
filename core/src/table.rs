//! The table of names: which region has which name, and which slots are free.
//!
//! Names are kept back to back in one arena and found through a hash table of 16-byte entries, so
//! that a hundred thousand regions do not mean a hundred thousand allocations. The order of the
//! hash table is never visible.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::run::MAX_NAME_LEN;

/// Where a name lies in the arena: the offset in the upper 48 bits, the length in the lower 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameRef(u64);

impl NameRef {
    pub(crate) const NONE: Self = Self(0);

    fn range(self) -> core::ops::Range<usize> {
        let start = (self.0 >> 16) as usize;
        start..start + (self.0 & 0xffff) as usize
    }

    pub(crate) fn len(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// Checks that `name` may be the name of a region: 1 to 1,024 bytes without control characters.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err(Error::InvalidName { len: name.len(), position: None });
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(Error::InvalidName { len: name.len(), position: Some(at) }),
        None => Ok(()),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashTable<(NameRef, u32)>,
    arena: Vec<u8>,
    /// Bytes of the arena that no region's name uses any more.
    garbage: usize,
    free: Vec<u32>,
    slots: u32,
    /// The id of the next region. Never goes back, so that an id is never used twice.
    pub(crate) next_id: u64,
}

impl Table {
    pub(crate) fn new(next_id: u64) -> Self {
        Self { next_id, ..Self::default() }
    }

    /// How many regions have a name.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many slots were ever used: indexes below this may hold a region.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    fn hash(name: &[u8]) -> u64 {
        FixedState::with_seed(0x61_6c6c_6f64).hash_one(name)
    }

    pub(crate) fn name(&self, name: NameRef) -> &str {
        self.arena
            .get(name.range())
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = Self::hash(name.as_bytes());
        self.entries
            .find(hash, |(at, _)| self.arena.get(at.range()) == Some(name.as_bytes()))
            .map(|(_, index)| *index)
    }

    /// Every region, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries.iter().map(|(name, index)| (self.name(*name), *index))
    }

    pub(crate) fn reserve(&mut self, regions: usize, name_bytes: usize) -> Result<()> {
        let arena = &self.arena;
        self.entries
            .try_reserve(regions, |(at, _)| Self::hash(arena.get(at.range()).unwrap_or_default()))
            .map_err(|_| Error::OutOfMemory { requested: regions as u64 * 16 })?;
        self.arena
            .try_reserve(name_bytes)
            .map_err(|_| Error::OutOfMemory { requested: name_bytes as u64 })
    }

    /// Puts a name into the arena, without entering it for any region yet.
    pub(crate) fn intern(&mut self, name: &str) -> Result<NameRef> {
        self.arena
            .try_reserve(name.len())
            .map_err(|_| Error::OutOfMemory { requested: name.len() as u64 })?;
        let at = NameRef((self.arena.len() as u64) << 16 | name.len() as u64);
        self.arena.extend_from_slice(name.as_bytes());
        Ok(at)
    }

    /// Enters `name` for the region at `index`. The caller has checked that nobody has it.
    pub(crate) fn enter(&mut self, name: NameRef, index: u32) {
        let arena = &self.arena;
        let hash_of = |at: NameRef| Self::hash(arena.get(at.range()).unwrap_or_default());
        self.entries.insert_unique(hash_of(name), (name, index), |(at, _)| hash_of(*at));
    }

    /// Enters `name` unless somebody has it.
    pub(crate) fn enter_unique(&mut self, name: NameRef, index: u32) -> bool {
        let arena = &self.arena;
        let bytes = |at: NameRef| arena.get(at.range()).unwrap_or_default();
        match self.entries.entry(
            Self::hash(bytes(name)),
            |(at, _)| bytes(*at) == bytes(name),
            |(at, _)| Self::hash(bytes(*at)),
        ) {
            hashbrown::hash_table::Entry::Occupied(_) => false,
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert((name, index));
                true
            }
        }
    }

    /// Takes `name` out of the table. Its bytes stay in the arena until the next rebuild, because
    /// a flush may still have to write them.
    pub(crate) fn leave(&mut self, name: NameRef) {
        let arena = &self.arena;
        let hash = Self::hash(arena.get(name.range()).unwrap_or_default());
        if let Ok(entry) = self.entries.find_entry(hash, |(at, _)| *at == name) {
            entry.remove();
            self.garbage += name.len();
        }
    }

    /// A free slot index. The caller makes sure that the slab has it.
    pub(crate) fn take_slot(&mut self) -> Result<u32> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        let index = self.slots;
        self.slots = index.checked_add(1).ok_or(Error::TooLarge {
            what: "regions in one store",
            requested: u64::from(index) + 1,
            limit: crate::slots::MAX_REGIONS,
        })?;
        Ok(index)
    }

    pub(crate) fn free_slot(&mut self, index: u32) {
        self.free.push(index);
    }

    /// Whether more than half of a large arena is garbage.
    pub(crate) fn wants_rebuild(&self) -> bool {
        self.garbage > (64 << 10) && self.garbage * 2 > self.arena.len()
    }

    /// Moves all names together. Answers the new place of each region's name; every other
    /// [`NameRef`] is invalid afterwards.
    pub(crate) fn rebuild(&mut self) -> Vec<(u32, NameRef)> {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        let mut moved = Vec::with_capacity(self.entries.len());
        for (name, index) in self.entries.iter_mut() {
            let bytes = self.arena.get(name.range()).unwrap_or_default();
            *name = NameRef((arena.len() as u64) << 16 | bytes.len() as u64);
            arena.extend_from_slice(bytes);
            moved.push((*index, *name));
        }
        self.arena = arena;
        self.garbage = 0;
        moved
    }

    /// Bytes of memory that the table takes, for statistics.
    pub(crate) fn memory(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * 17 + self.free.capacity() * 4
    }
}

pub(crate) fn exists(name: &str) -> Error {
    Error::RegionExists { name: Box::from(name) }
}

pub(crate) fn missing(name: &str) -> Error {
    Error::NoRegion { name: Box::from(name) }
}
