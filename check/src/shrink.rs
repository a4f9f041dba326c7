//! Making a history that fails as short as it can be.

use crate::history::History;
use crate::step::{Op, Step};

/// Deletes steps, and makes numbers smaller, as long as `fails` says that the history still fails.
/// Answers the history and how many were tried.
pub fn shrink(history: &History, mut fails: impl FnMut(&History) -> bool) -> (History, u64) {
    let mut best = history.clone();
    let mut tried = 0;
    let mut attempt = |steps: Vec<Step>, best: &mut History| {
        tried += 1;
        let candidate = History { steps, ..best.clone() };
        let failed = fails(&candidate);
        if failed {
            *best = candidate;
        }
        failed
    };
    loop {
        let before = best.clone();
        let mut size = best.steps.len().div_ceil(2).max(1);
        loop {
            let mut end = best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut steps = best.steps.clone();
                steps.drain(start..end);
                attempt(steps, &mut best);
                end = start.min(best.steps.len());
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        for at in 0..best.steps.len() {
            for op in simpler(best.steps[at].op) {
                let mut steps = best.steps.clone();
                steps[at].op = op;
                if attempt(steps, &mut best) {
                    break;
                }
            }
        }
        if best == before {
            return (best, tried);
        }
    }
}

/// Operations that may do as well and are easier to read.
fn simpler(op: Op) -> Vec<Op> {
    let lens = |len: u32| {
        let rounded = len / 4096 * 4096;
        let tries = [1, 100, 4096, 4097, 8192, rounded, rounded + 1, len / 2];
        tries.into_iter().filter(move |new| *new < len)
    };
    let places = |at: u32| [0, 4096, at / 4096 * 4096].into_iter().filter(move |new| *new < at);
    match op {
        Op::Append(r, n) => lens(n).map(|n| Op::Append(r, n)).collect(),
        Op::Replace(r, n) => lens(n).map(|n| Op::Append(r, n)).collect(),
        Op::Write(r, at, n) => {
            let place = places(at).map(|at| Op::Write(r, at, n));
            place.chain(lens(n).map(|n| Op::Write(r, at, n))).collect()
        }
        Op::TruncateWrite(r, at, n) => {
            let place = places(at).map(|at| Op::TruncateWrite(r, at, n));
            let one = [Op::Truncate(r, at), Op::Append(r, n)];
            let len = lens(n).map(|n| Op::TruncateWrite(r, at, n));
            one.into_iter().chain(place).chain(len).collect()
        }
        Op::Truncate(r, at) => places(at).map(|at| Op::Truncate(r, at)).collect(),
        Op::Reserve(r, n) => lens(n).map(|n| Op::Reserve(r, n)).collect(),
        Op::Hold(n) if n > 0 => vec![Op::Hold(n - 1)],
        Op::During(call, n) => {
            let fewer = n.checked_sub(1).map(|n| Op::During(call, n));
            let earlier = (call > 0).then_some(Op::During(0, n));
            fewer.into_iter().chain(earlier).collect()
        }
        Op::Full(pages) if pages > 0 => vec![Op::Full(0), Op::Full(pages - 1)],
        _ => Vec::new(),
    }
}
