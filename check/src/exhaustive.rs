//! All short histories: every sequence of the letters of a small alphabet.

use allod_core::Durability;

use crate::history::{History, Setting};
use crate::rig::Lie;
use crate::step::{Kept, Op, Step};

/// The letters. Two regions, changes of less and of more than a page, every kind of flush and death.
const LETTERS: [Op; 15] = [
    Op::Append(0, 100),
    Op::Append(0, 4097),
    Op::Write(0, 10, 20),
    Op::Truncate(0, 0),
    Op::Remove(0),
    Op::Rename(0, 2),
    Op::Replace(0, 8192),
    Op::Append(1, 4096),
    Op::Pin(0),
    Op::Flush(Durability::Sync),
    Op::Flush(Durability::Process),
    Op::Checkpoint,
    Op::Reopen,
    Op::FailSync(1, Kept::Nothing),
    Op::FailSync(2, Kept::Sample(3)),
];

/// The settings under which all histories are run: a budget that lets nothing stay in memory, and one
/// that lets everything.
pub(crate) const SETTINGS: [Setting; 2] = [
    Setting { journal_pages: 4, inline_kib: 9, budget_kib: 0, lie: Lie::None },
    Setting { journal_pages: 4, inline_kib: 5, budget_kib: 1000, lie: Lie::None },
];

/// Every history of `len` letters that makes sense, under every setting. The crash points of the last
/// letter are those that no shorter history has.
pub fn all(len: u32) -> impl Iterator<Item = History> {
    let letters = LETTERS.len() as u64;
    let count = letters.saturating_pow(len);
    (0..count).filter_map(move |number| word(number, len)).flat_map(|steps| {
        SETTINGS.into_iter().map(move |setting| History { seed: 1, setting, steps: steps.clone() })
    })
}

/// The letters that a number stands for, first the highest digit; none if a letter would do nothing.
fn word(number: u64, len: u32) -> Option<Vec<Step>> {
    let letters = LETTERS.len() as u64;
    let mut steps = Vec::with_capacity(len as usize);
    // Whether region 0 is there, and whether it has bytes.
    let (mut there, mut full, mut renamed, mut changed) = (false, false, false, false);
    let mut last = None;
    for place in (0..len).rev() {
        let op = LETTERS[(number / letters.pow(place) % letters) as usize];
        match op {
            Op::Append(0, _) => (there, full, changed) = (true, true, true),
            Op::Append(..) => changed = true,
            Op::Replace(..) => (there, full, changed) = (true, true, true),
            Op::Write(..) | Op::Truncate(..) if !full => return None,
            Op::Truncate(..) => (full, changed) = (false, true),
            Op::Remove(_) if !there => return None,
            Op::Remove(_) => (there, full, changed) = (false, false, true),
            Op::Rename(..) if !there || renamed => return None,
            Op::Rename(..) => (there, full, renamed, changed) = (false, false, true, true),
            Op::Pin(_) if !there => return None,
            Op::Flush(Durability::Process) if !changed => return None,
            Op::Flush(_) if last == Some(op) || steps.is_empty() => return None,
            Op::Reopen if last == Some(op) || steps.is_empty() => return None,
            Op::FailSync(..) if matches!(last, Some(Op::FailSync(..))) => return None,
            // What was lost may be there or not: all letters make sense after that.
            Op::Reopen => (there, full, renamed, changed) = (true, true, false, true),
            _ => {}
        }
        last = Some(op);
        steps.push(Step { op, salt: (len - place) * 16 });
    }
    (!matches!(last, Some(Op::FailSync(..) | Op::Pin(_)))).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let words: Vec<_> = all(2).map(|history| history.to_string()).collect();
        let mut sorted = words.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), words.len());
        assert!(words.len() > 50);
    }
}
