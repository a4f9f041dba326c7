//! Directed histories: those that random search finds rarely or never, written down. Each is a
//! family, one history for every value of the numbers in braces.

use crate::effort::Effort;
use crate::history::History;

/// A family of histories about one thing that can go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Directed {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong in a store that has it wrong.
    pub what: &'static str,
    /// The text of the histories, with `{a..b}` where a number takes all values from `a` to before
    /// `b`.
    text: &'static str,
    /// All images of a call are looked at if there are no more than this.
    enumerate: u64,
}

/// All of them.
pub const DIRECTED: &[Directed] = &[
    Directed {
        name: "left-after-the-cut",
        what: "a region is removed while a flush that names it is written; its place must not be \
               given away by that flush",
        text: "1:24:5:0 append:0:40000 flush append:2:9 during:{0..4}:2 flush remove:0 \
               create:1 append:1:40000 flush",
        enumerate: 60,
    },
    Directed {
        name: "left-with-entries",
        what: "a region is removed while a flush writes its bytes into the journal; its place has \
               entries, and must not be given away in this generation",
        text: "2:24:5:60000 append:0:100 during:{0..4}:1 flush remove:0 flush \
               append:1:2000 append:2:2000 flush look",
        enumerate: 60,
    },
    Directed {
        name: "drained-after-the-cut",
        what: "bytes that a flush names are cut off and others appended and drained over them while \
               the flush is written: the floor must have risen at the cut",
        text: "3:24:{1..10}:0 append:0:9000 during:{0..5}:2 flush truncate:0:100 append:0:9000 \
               append:0:9000 flush",
        enumerate: 60,
    },
    Directed {
        name: "proof-in-the-cache",
        what: "the process dies while a checkpoint writes its proof, and a sync of the confirmation \
               fails: the proof was visible and is not durable, and the generation before may \
               be what the disk has",
        text: "4:4:9:60000 append:0:20000 append:1:100 flush checkpoint write:1:0:50 remove:0 \
               kill-in:{5..11} checkpoint fail-sync:1:sample/{0..8} append:1:10 power-cut:oldest \
               append:1:10",
        enumerate: 60,
    },
    Directed {
        name: "hidden-slot",
        what: "the disk holds an older unproven slot under a newer one that only the cache shows: its \
               checkpoint is overwritten, and recovery must fall back to the other slot",
        text: "5:4:9:60000 append:0:100 flush reopen cut-in:{3..9}:newest append:0:1 \
               kill-in:{3..9} append:0:1 append:0:1",
        enumerate: 60,
    },
    Directed {
        name: "four-deaths",
        what: "the power goes inside recovery's own writes, again and again",
        text: "7:4:5:0 append:0:5000 flush append:0:100 process kill-in:{1..5} append:0:1 \
               cut-in:{1..7}:newest append:0:2 kill-in:3 append:0:3 cut-in:5:garbage/3 append:0:4 \
               append:0:5 flush",
        enumerate: 60,
    },
    Directed {
        name: "compacted-meanwhile",
        what: "regions change, and readers look on, while a step of a compaction moves them",
        text: "8:4:5:{0..6} append:0:30000 append:1:9000 append:2:9000 flush remove:0 flush pin:1 \
               compact-step:0 during:{0..6}:3 compact-step:0 write:1:5:10 append:2:10 \
               truncate:1:4096 compact-step:0 look compact:0 flush look",
        enumerate: 60,
    },
    // Violations that the checker found while the store was young, shrunk.
    Directed {
        name: "flush-after-opening",
        what: "a flush with nothing to do, after the store was opened on a cache, must make durable \
               what recovery found",
        text: "9:6:9:16 append:0:{1..3} process reopen flush power-cut:oldest look",
        enumerate: 60,
    },
    Directed {
        name: "no-room-for-a-slot",
        what: "the disk is full when a checkpoint writes its slot: nothing may be lost by that",
        text: "10:4:5:0 full:{0..12} append:0:100 checkpoint flush lift flush look",
        enumerate: 60,
    },
    Directed {
        name: "room-reserved",
        what: "room is reserved for a region, with bytes and without, and comes back",
        text: "11:6:5:{0..9} create:0 reserve:0:70000 append:0:9000 flush reserve:0:5000 \
               append:0:100 flush append:1:9000 flush reserve:0:300000 flush compact:0 look",
        enumerate: 60,
    },
    Directed {
        name: "length-lost",
        what: "a failed sync loses the length of the file, which the cache still shows: what is \
               confirmed on that cache must not rely on it",
        text: "13:{96..104}:300:0 reopen flush fail-sync:{1..4}:nothing append:1:4097 flush \
               checkpoint reopen append:0:0",
        enumerate: 60,
    },
    Directed {
        name: "compacted-after-poison",
        what: "a poisoned store must not go on compacting",
        text: "12:4:5:0 append:0:9000 flush remove:0 append:1:9000 flush compact-step:0 \
               fail-sync:{1..5}:nothing append:1:1 compact-step:0 compact-step:0 compact-step:0",
        enumerate: 60,
    },
    Directed {
        name: "stale-batch",
        what: "a journal comes to lie where an older one lay, and where it is not blank yet, behind \
               its end, there is a batch of that one with the right number",
        text: "6:{65..68}:400:60000 replace:0:240000 flush create:1 flush remove:1 \
               flush create:2 flush remove:2 flush create:3 flush checkpoint remove:3 \
               replace:0:240100 flush create:1 flush remove:1 flush create:2 flush \
               remove:2 flush create:3 flush checkpoint remove:3 replace:0:240200 flush \
               create:1 flush remove:1 flush create:2 flush remove:2 flush create:3 \
               flush checkpoint remove:3 replace:0:240300 flush create:1 flush remove:1 \
               flush create:2 flush remove:2 flush create:3 flush",
        enumerate: 1000,
    },
];

impl Directed {
    /// How closely to look at them.
    #[must_use]
    pub fn effort(&self) -> Effort {
        Effort { samples: 24, branch_once_in: 2000, enumerate: self.enumerate, ..Effort::default() }
    }

    /// The histories of the family.
    #[must_use]
    pub fn histories(&self) -> Vec<History> {
        let texts = expand(self.text);
        let parsed = texts.iter().map(|text| text.parse());
        // A text of the list above that does not parse is found by the test below.
        parsed.filter_map(Result::ok).collect()
    }
}

/// The texts that come of one with `{a..b}` in it.
fn expand(text: &str) -> Vec<String> {
    let Some((head, range, tail)) = range(text) else { return vec![text.into()] };
    range.flat_map(|n| expand(&format!("{head}{n}{tail}"))).collect()
}

/// The first range of a text, with what is before and behind it.
fn range(text: &str) -> Option<(&str, std::ops::Range<u32>, &str)> {
    let (head, rest) = text.split_once('{')?;
    let (range, tail) = rest.split_once('}')?;
    let (from, to) = range.split_once("..")?;
    Some((head, from.parse().ok()?..to.parse().ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_history() {
        for directed in DIRECTED {
            let texts = expand(directed.text);
            assert_eq!(directed.histories().len(), texts.len(), "{}", directed.name);
            assert!(texts.iter().all(|text| !text.contains('{')), "{}", directed.name);
        }
        assert_eq!(expand("a{1..3}b{0..2}"), ["a1b0", "a1b1", "a2b0", "a2b1"]);
    }
}
