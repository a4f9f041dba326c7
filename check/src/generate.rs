//! Histories by lot: the same for the same seed.

use allod_core::Durability;

use crate::history::{History, Setting};
use crate::prng::{Prng, mix};
use crate::rig::Lie;
use crate::step::{Image, Kept, Op, Step};

const PAGE: u32 = 4096;

/// The random history of a seed. Seeds from 2^32 on give longer ones: `k` times 2^32 more make it
/// `k` times as long again.
#[must_use]
pub fn random(seed: u64) -> History {
    let mut prng = Prng::new(mix(seed, 1));
    let large = prng.once_in(24);
    let wide = large && prng.once_in(2);
    let setting = Setting {
        journal_pages: if wide { 100 } else { prng.pick(&[4, 4, 6, 10, 24]) },
        inline_kib: if wide { 300 } else { prng.pick(&[1, 5, 9, 13, 40]) },
        budget_kib: prng.pick(&[0, 0, 8, 64, 60_000]),
        lie: Lie::None,
    };
    let lot = Lot {
        regions: prng.pick(&[1, 2, 3, 4]),
        pages: prng.pick(&[1, 1, 2, 2, 4, 4, 8, 20]),
        faults: prng.pick(&[0, 4, 12, 30]),
        flushes: prng.pick(&[10, 20, 35]),
        large,
    };
    let len = prng.pick(&[12, 25, 60, 120, 300]) * (1 + (seed >> 32) as usize);
    History { seed, setting, steps: lot.steps(&mut prng, len) }
}

/// What a store does after a crash, before the next one.
pub(crate) fn after_crash(seed: u64) -> Vec<Step> {
    let mut prng = Prng::new(mix(seed, 2));
    let lot = Lot { regions: 2, pages: 2, faults: 10, flushes: 40, large: false };
    let len = 2 + prng.below(4) as usize;
    lot.steps(&mut prng, len)
}

/// What a history leans to.
struct Lot {
    regions: u8,
    /// How long regions become, in pages.
    pages: u32,
    /// How many of a hundred steps are deaths and faults.
    faults: u64,
    /// How many are flushes.
    flushes: u64,
    /// Whether some steps are about more than a megabyte.
    large: bool,
}

impl Lot {
    /// At least so many steps.
    fn steps(&self, prng: &mut Prng, len: usize) -> Vec<Step> {
        let mut steps = Vec::with_capacity(len + 8);
        let mut add = |prng: &mut Prng, op| {
            steps.push(Step { op, salt: prng.bits() as u32 });
            steps.len()
        };
        let mut made = 0;
        while made < len {
            let of_a_hundred = prng.below(100);
            let op = if of_a_hundred < self.faults {
                self.fault(prng)
            } else if of_a_hundred < self.faults + self.flushes {
                self.flush(prng)
            } else {
                self.change(prng)
            };
            made = add(prng, op);
            if let Op::During(_, inner) = op {
                let outer = match prng.below(6) {
                    0..3 => Op::Flush(Durability::Sync),
                    3 => Op::Flush(Durability::Process),
                    4 => Op::Checkpoint,
                    _ => Op::CompactStep(prng.pick(&[0, PAGE, 1 << 20])),
                };
                add(prng, outer);
                for _ in 0..inner {
                    let op = self.change(prng);
                    made = add(prng, op);
                }
            }
        }
        steps
    }

    fn region(&self, prng: &mut Prng) -> u8 {
        prng.below(self.regions.into()) as u8
    }

    fn length(&self, prng: &mut Prng) -> u32 {
        let pages = 1 + prng.below(self.pages.into()) as u32;
        match prng.below(10) {
            0..4 => 1 + prng.below(200) as u32,
            4 => PAGE * pages - 1,
            5 => PAGE * pages,
            6 => PAGE * pages + 1,
            7 if self.large && prng.once_in(3) => 1 << 20 | prng.below(70_000) as u32,
            7 if prng.once_in(8) => 60_000 + prng.below(12_000) as u32,
            _ => prng.below((PAGE * pages).into()) as u32,
        }
    }

    fn place(&self, prng: &mut Prng) -> u32 {
        match prng.below(3) {
            0 => PAGE * prng.below(u64::from(self.pages) + 1) as u32,
            1 => prng.below((PAGE * self.pages).into()) as u32,
            _ => prng.bits() as u32 >> 1,
        }
    }

    fn change(&self, prng: &mut Prng) -> Op {
        let region = self.region(prng);
        match prng.below(100) {
            0..36 => Op::Append(region, self.length(prng)),
            36..54 => Op::Write(region, self.place(prng), self.length(prng)),
            54..61 => Op::Truncate(region, self.place(prng)),
            61..66 => Op::TruncateWrite(region, self.place(prng), self.length(prng)),
            66..71 => Op::Replace(region, self.length(prng)),
            71..75 => Op::Rename(region, prng.below(u64::from(self.regions) + 1) as u8),
            75..81 => Op::Remove(region),
            81..83 => Op::Reserve(region, self.length(prng)),
            83..88 => Op::Pin(region),
            88 => Op::CompactStep(prng.pick(&[0, PAGE, 1 << 20])),
            91..93 => Op::Unpin(prng.bits() as u8),
            93..95 => Op::Create(region),
            89 => Op::Compact(prng.pick(&[0, PAGE, 1 << 20])),
            90 => Op::CompactStep(prng.pick(&[0, PAGE, 1 << 20])),
            95..97 => Op::Hold(1 + prng.below(4) as u8),
            _ => Op::Look,
        }
    }

    fn flush(&self, prng: &mut Prng) -> Op {
        match prng.below(20) {
            0..11 => Op::Flush(Durability::Sync),
            11..15 => Op::Flush(Durability::Process),
            15..17 => Op::Checkpoint,
            _ => Op::During(prng.below(7) as u8, 1 + prng.below(4) as u8),
        }
    }

    fn fault(&self, prng: &mut Prng) -> Op {
        let seed = prng.bits() as u32;
        let image = match prng.below(5) {
            0 => Image::Oldest,
            1 => Image::Newest,
            2 => Image::Garbage(seed),
            _ => Image::Sample(seed),
        };
        let kept = match prng.below(4) {
            0 => Kept::Nothing,
            1 => Kept::Everything,
            _ => Kept::Sample(seed),
        };
        let calls = 1 + prng.below(14) as u32;
        match prng.below(20) {
            0..4 => Op::Reopen,
            4..6 => Op::PowerCut(image),
            6..11 => Op::CutIn(calls, image),
            11..15 => Op::KillIn(calls),
            15..18 => Op::FailSync(1 + prng.below(4) as u32, kept),
            18 => Op::Full(prng.below(12) as u32),
            _ => Op::Lift,
        }
    }
}
