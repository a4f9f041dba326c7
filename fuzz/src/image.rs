//! The file of a store in few bytes, and the mutations that suit it.
//!
//! An input of the target `open` is either `ff` and the bytes of the file as they are, or a list of
//! *segments*, each some bytes and the place in the file where they start; the rest is zeros. Where
//! the input asks for it, checksums and the other fields that no fuzzer guesses are made right, at
//! the places that FORMAT.md gives, so that what lies behind them is reached too.

use std::ops::Range;

use allod_core::Platform;
use allod_mem::MemPlatform;

const PAGE: usize = 4096;
const RECORD: usize = 512;
/// Segments start below this page.
const MAX_START: u16 = 512;
/// A file has at most so many whole pages.
const MAX_PAGES: u16 = 4096;
const RAW: u8 = 0xff;

/// What is made right: see [`Image::file`].
mod fix {
    pub(super) const SLOT: u8 = 1;
    pub(super) const SALT: u8 = 2;
    pub(super) const CHECKPOINT: u8 = 4;
    pub(super) const CHECKPOINT_LEN: u8 = 8;
    pub(super) const BATCH: u8 = 16;
    pub(super) const BATCH_LEN: u8 = 32;
    pub(super) const GENERATION: u8 = 64;
    pub(super) const ALL: u8 = 127;
}

/// Some bytes of a file.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Where they start, in pages of 4 KiB.
    pub page: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A file as segments.
#[derive(Clone, Debug, Default)]
pub struct Image {
    fixes: u8,
    pages: u16,
    tail: u16,
    /// Later ones lie over earlier ones.
    pub segments: Vec<Segment>,
}

/// The platform that an input of the target `open` stands for.
pub fn platform(input: &[u8]) -> MemPlatform {
    match Image::decode(input) {
        Some(image) => image.platform(),
        None => MemPlatform::from_bytes(input.get(1..).unwrap_or_default()),
    }
}

impl Image {
    /// The segments of an input; `None` if it is a file as it is.
    pub fn decode(input: &[u8]) -> Option<Self> {
        let (head, mut rest) = input.split_first_chunk::<5>()?;
        let [fixes, pages @ .., _, _] = *head;
        if fixes == RAW {
            return None;
        }
        let mut image = Self {
            fixes,
            pages: u16::from_le_bytes(pages),
            tail: u16::from_le_bytes([head[3], head[4]]),
            segments: Vec::new(),
        };
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            let len = usize::from(u16::from_le_bytes([head[2], head[3]])).min(behind.len());
            let (bytes, behind) = behind.split_at(len);
            let page = u16::from_le_bytes([head[0], head[1]]);
            image.segments.push(Segment { page, bytes: bytes.to_vec() });
            rest = behind;
        }
        Some(image)
    }

    /// The input that stands for these segments.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.fixes.min(RAW - 1)];
        out.extend(self.pages.to_le_bytes());
        out.extend(self.tail.to_le_bytes());
        for segment in &self.segments {
            let bytes = &segment.bytes[..segment.bytes.len().min(u16::MAX.into())];
            out.extend(segment.page.to_le_bytes());
            out.extend((bytes.len() as u16).to_le_bytes());
            out.extend(bytes);
        }
        out
    }

    /// The segments of a file of which all that is of interest lies in the first 2 MiB: one a slot,
    /// one for the checkpoint, one a batch, and one for each other page that is not zeros.
    pub fn of(file: &[u8]) -> Self {
        let mut image = Self { fixes: fix::ALL, ..Self::default() };
        image.pages = (file.len() / PAGE).min(MAX_PAGES.into()) as u16;
        image.tail = (file.len() % PAGE) as u16;
        let mut rest = file[..file.len().min(usize::from(MAX_START) * PAGE)].to_vec();
        let slots: Vec<usize> = [0, PAGE].into_iter().filter(|at| is_slot(&rest, *at)).collect();
        let mut pieces: Vec<Range<usize>> = slots.iter().map(|at| *at..*at + RECORD).collect();
        for at in &slots {
            let checkpoint = field(file, at + 72) as usize * PAGE;
            pieces.push(checkpoint..checkpoint + field(file, at + 88) as usize);
            let mut batch = field(file, at + 96) as usize * PAGE;
            while rest.get(batch..).is_some_and(|bytes| bytes.starts_with(b"allodbat")) {
                let len = field(file, batch + 56) as usize;
                pieces.push(batch..batch + len);
                batch += len.next_multiple_of(PAGE);
            }
        }
        for piece in pieces {
            let page = (piece.start / PAGE) as u16;
            if let Some(bytes) = rest.get_mut(piece.clone()) {
                image.segments.push(Segment { page, bytes: bytes.to_vec() });
                let end = piece.end.next_multiple_of(PAGE).min(rest.len());
                rest[piece.start..end].fill(0);
            }
        }
        for (page, bytes) in rest.chunks(PAGE).enumerate() {
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                let bytes = bytes[..=last].to_vec();
                image.segments.push(Segment { page: page as u16, bytes });
            }
        }
        image
    }

    /// The length of the file, and its bytes up to the last that a segment gives.
    fn file(&self) -> (u64, Vec<u8>) {
        let len = usize::from(self.pages % (MAX_PAGES + 1)) * PAGE + usize::from(self.tail) % PAGE;
        let mut file = Vec::new();
        for segment in &self.segments {
            let at = usize::from(segment.page % MAX_START) * PAGE;
            if file.len() < at + segment.bytes.len() {
                file.resize(at + segment.bytes.len(), 0);
            }
            file[at..at + segment.bytes.len()].copy_from_slice(&segment.bytes);
        }
        for at in (0..file.len().min(2 * 65_536)).step_by(RECORD) {
            if is_slot(&file, at) {
                self.fix_slot(&mut file, at);
            }
        }
        file.truncate(len);
        (len as u64, file)
    }

    /// The bytes of the file, in memory.
    fn platform(&self) -> MemPlatform {
        let (len, file) = self.file();
        let platform = MemPlatform::new();
        platform.grow(len).expect("room");
        for (page, bytes) in file.chunks(PAGE).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                platform.write((page * PAGE) as u64, bytes).expect("room");
            }
        }
        platform
    }

    fn fixes(&self, what: u8) -> bool {
        self.fixes & what != 0
    }

    /// The length of the segment that starts at a place.
    fn len_at(&self, at: u64) -> Option<u64> {
        let here = |segment: &&Segment| u64::from(segment.page) * PAGE as u64 == at;
        self.segments.iter().rev().find(here).map(|segment| segment.bytes.len() as u64)
    }

    fn fix_slot(&self, file: &mut Vec<u8>, at: usize) {
        let size = field(file, at + 8) >> 32;
        let place = |page: u64| page.checked_mul(size).filter(|place| *place < 1 << 40);
        if self.fixes(fix::GENERATION) {
            // Small enough for a store to go on for ever.
            let generation = field(file, at + 56) & (u64::MAX >> 2);
            put(file, at + 56, &generation.to_le_bytes());
        }
        if self.fixes(fix::SALT) {
            let salt = salt(field(file, at + 40), field(file, at + 48), field(file, at + 56));
            put(file, at + 64, &salt.to_le_bytes());
        }
        let checkpoint = place(field(file, at + 72));
        if let (true, Some(len)) =
            (self.fixes(fix::CHECKPOINT_LEN), checkpoint.and_then(|place| self.len_at(place)))
        {
            put(file, at + 88, &len.to_le_bytes());
        }
        if self.fixes(fix::SLOT) && at + RECORD <= file.len() {
            let crc = crc32fast::hash(&file[at..at + RECORD - 4]);
            put(file, at + RECORD - 4, &crc.to_le_bytes());
        }
        let slot: Vec<u8> = file[at..file.len().min(at + RECORD)].to_vec();
        if let (true, Some(place)) = (self.fixes(fix::CHECKPOINT), checkpoint) {
            let (start, len) = (place as usize, field(&slot, 88));
            put(file, start + 8, slot.get(40..72).unwrap_or_default());
            put(file, start + 64, &len.to_le_bytes());
            seal(file, start, len, 72);
        }
        let Some(mut batch) = place(field(&slot, 96)).map(|place| place as usize) else { return };
        for sequence in 1..64_u64 {
            if !file.get(batch..).is_some_and(|bytes| bytes.starts_with(b"allodbat")) {
                self.fix_mark(file, batch, &slot);
                return;
            }
            if let (true, Some(len)) = (self.fixes(fix::BATCH_LEN), self.len_at(batch as u64)) {
                put(file, batch + 56, &len.to_le_bytes());
            }
            let len = field(file, batch + 56);
            if self.fixes(fix::BATCH) {
                put(file, batch + 8, slot.get(40..56).unwrap_or_default());
                put(file, batch + 24, slot.get(64..72).unwrap_or_default());
                put(file, batch + 32, &sequence.to_le_bytes());
                let durable = field(file, batch + 40).min(sequence - 1);
                put(file, batch + 40, &durable.to_le_bytes());
                seal(file, batch, len, 68);
            }
            batch = batch.saturating_add((len.min(1 << 40)).next_multiple_of(size.max(1)) as usize);
        }
    }

    fn fix_mark(&self, file: &mut Vec<u8>, at: usize, slot: &[u8]) {
        let mark = file.get(at..).is_some_and(|bytes| bytes.starts_with(b"allodack"));
        if mark && self.fixes(fix::BATCH) {
            put(file, at + 8, slot.get(40..56).unwrap_or_default());
            put(file, at + 24, slot.get(64..72).unwrap_or_default());
            seal(file, at, 44, 40);
        }
    }

    /// One change that knows what segments are, and a little of what is in them.
    pub fn mutate(&mut self, random: &mut Random) {
        let count = self.segments.len();
        let (at, other) = (random.below(count.max(1)), random.below(count.max(1)));
        match random.below(16) {
            0 => self.fixes = if random.below(3) == 0 { random.next() as u8 } else { fix::ALL },
            1 => self.pages = self.pages.wrapping_add(random.small() as u16),
            2 => self.tail = random.next() as u16,
            3 if count > 0 => drop(self.segments.remove(at)),
            4 if count > 0 => self.segments.swap(at, other),
            5 if count > 0 && count < 32 => {
                let mut copy = self.segments[at].clone();
                copy.page = copy.page.wrapping_add(random.small() as u16);
                self.segments.insert(other, copy);
            }
            6 if count > 0 => {
                let segment = &mut self.segments[at];
                segment.page = segment.page.wrapping_add(random.small() as u16);
            }
            7..=9 if count > 0 => self.segments[at].append_record(random),
            10 if count > 0 => {
                let (from, bytes) = (&self.segments[other].bytes, &self.segments[at].bytes);
                let keep = random.below(bytes.len() + 1);
                let rest = from.get(random.below(from.len() + 1)..).unwrap_or_default();
                let mixed = [&bytes[..keep], rest].concat();
                self.segments[at].bytes = mixed;
            }
            11..=12 if count > 0 => self.segments[at].change_field(random),
            _ if count > 0 => self.segments[at].change_bytes(random),
            _ => self.segments.push(Segment { page: 0, bytes: vec![0; RECORD] }),
        }
    }
}

impl Segment {
    /// Adds an entry to a batch, or a record to a checkpoint, and counts it.
    fn append_record(&mut self, random: &mut Random) {
        let batch = self.bytes.starts_with(b"allodbat");
        let (count, at) = if batch { (64, 40) } else { (48, 32) };
        if self.bytes.len() < at + 40 {
            return;
        }
        let bytes = &mut self.bytes;
        let name: &[u8] = [&b"\x01a"[..], b"\x02zz", b"\x03new"][random.below(3)];
        if !batch {
            varint(bytes, random.small());
            varint(bytes, random.small());
            varint(bytes, random.small());
            varint(bytes, random.small());
            bytes.extend(name);
        } else {
            match random.below(4) {
                0 => {
                    let flags = (random.below(16) << 3) as u8;
                    bytes.push(1 | flags);
                    varint(bytes, random.small());
                    if flags & 0x10 != 0 {
                        bytes.extend(name);
                    }
                    if flags & 0x20 != 0 {
                        varint(bytes, random.small());
                        varint(bytes, random.small());
                    }
                    if flags & 0x40 != 0 {
                        varint(bytes, random.small().wrapping_mul(random.small()));
                    }
                }
                1 => {
                    bytes.push(2);
                    varint(bytes, random.small());
                }
                kind => {
                    bytes.push(1 + kind as u8);
                    varint(bytes, random.small());
                    if kind == 2 {
                        varint(bytes, random.small());
                    }
                    let len = random.below(20);
                    varint(bytes, len as u64);
                    bytes.extend((0..len).map(|at| at as u8));
                }
            }
        }
        let counted = field(bytes, count) as u32;
        put(bytes, count, &counted.wrapping_add(1).to_le_bytes());
    }

    /// Changes one of the fixed fields at the front.
    fn change_field(&mut self, random: &mut Random) {
        let at = 8 * random.below(14);
        let old = field(&self.bytes, at);
        let new = match random.below(4) {
            0 => random.small(),
            1 => 1 << random.below(64),
            2 => u64::MAX - random.small(),
            _ => old.wrapping_add(random.small()).wrapping_sub(random.small()),
        };
        put(&mut self.bytes, at, &new.to_le_bytes());
    }

    /// Changes, inserts, removes or doubles a few bytes.
    fn change_bytes(&mut self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            let len = self.bytes.len();
            let at = random.below(len + 1);
            let end = (at + 1 + random.below(8)).min(len);
            match random.below(6) {
                0 => self.bytes.insert(at, random.small() as u8),
                1 if at < end => drop(self.bytes.drain(at..end)),
                2 if at < end => self.bytes.extend_from_within(at..end),
                3 => put(&mut self.bytes, at, &[[0, 1, 0x7f, 0x80, 0xff][random.below(5)]]),
                _ => put(&mut self.bytes, at, &[random.next() as u8]),
            }
        }
    }
}

/// Numbers from a seed that is not 0.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Mostly a small number, sometimes one near a power of two.
    pub fn small(&mut self) -> u64 {
        match self.below(8) {
            0 => (1_u64 << self.below(64)).wrapping_sub(self.below(2) as u64),
            1 => 4096 - self.below(2) as u64,
            _ => self.below(24) as u64,
        }
    }
}

fn is_slot(file: &[u8], at: usize) -> bool {
    file.get(at..).is_some_and(|bytes| bytes.starts_with(b"allod\r\n\x1a"))
}

/// The eight bytes at a place as a number; 0 where they do not exist.
fn field(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|tail| tail.get_mut(..new.len())) {
        place.copy_from_slice(new);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Makes the checksum right that the structure of `len` bytes at `at` has `inside` itself. Bytes
/// that no segment gives are zeros.
fn seal(file: &mut Vec<u8>, at: usize, len: u64, inside: usize) {
    let end = (at as u64).saturating_add(len);
    if len < inside as u64 + 4 || end > u64::from(MAX_START) * PAGE as u64 + 65_536 {
        return;
    }
    if file.len() < end as usize {
        file.resize(end as usize, 0);
    }
    put(file, at + inside, &[0; 4]);
    let crc = crc32fast::hash(&file[at..end as usize]);
    put(file, at + inside, &crc.to_le_bytes());
}

fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn salt(id_low: u64, id_high: u64, generation: u64) -> u64 {
    let salt = mix(mix(mix(id_low) ^ id_high) ^ generation);
    if salt == 0 { 0x9e37_79b9_7f4a_7c15 } else { salt }
}
