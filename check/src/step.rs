//! What a history is made of: operations, each with a number that fixes everything it draws, in a
//! text form that can be printed, kept and read back.

use std::fmt;
use std::str::FromStr;

use allod_core::Durability;
use allod_mem::Persisted;

/// One operation of a history.
///
/// A region is named by a small number; lengths are in bytes. Offsets are taken modulo what the
/// region has, so that every operation makes sense whatever was deleted before it. Operations on a
/// region that is not there are skipped, but for those that append: these make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes an empty region.
    Create(u8),
    /// Adds bytes at the end.
    Append(u8, u32),
    /// Writes `len` bytes at an offset.
    Write(u8, u32, u32),
    /// Cuts to a length.
    Truncate(u8, u32),
    /// Cuts to a length and appends, as one change.
    TruncateWrite(u8, u32, u32),
    /// Makes so many bytes the whole content.
    Replace(u8, u32),
    /// Gives a region the name of another that is not there.
    Rename(u8, u8),
    /// Removes a region.
    Remove(u8),
    /// Makes room for a region of so many bytes.
    Reserve(u8, u32),
    /// Keeps a reader of a region, and looks at its bytes after every later operation.
    Pin(u8),
    /// Drops one of the readers kept.
    Unpin(u8),
    /// Flushes.
    Flush(Durability),
    /// Flushes into a new generation.
    Checkpoint,
    /// Holds the cut open during so many operations, then flushes.
    Hold(u8),
    /// Does the second number of operations, those after the next one, inside the next one, when
    /// it has made the first number of calls to the platform.
    During(u8, u8),
    /// Compacts, in steps of so many bytes.
    Compact(u32),
    /// One step of a compaction, of so many bytes; begins one if none is under way.
    CompactStep(u32),
    /// Compares everything that the store shows with the oracle.
    Look,
    /// Drops the store without a flush and opens it again.
    Reopen,
    /// The power goes at once, and leaves this.
    PowerCut(Image),
    /// The power goes after so many calls to the platform from here, and leaves this.
    CutIn(u32, Image),
    /// The process dies after so many calls to the platform from here.
    KillIn(u32),
    /// A sync fails, and leaves a cache that looks clean.
    FailSync(u32, Kept),
    /// The disk takes no more than so many pages beyond those that it has.
    Full(u32),
    /// The disk takes as much as there is.
    Lift,
}

/// Which crash image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// Nothing survives that was not durable.
    Oldest,
    /// Everything survives.
    Newest,
    /// Everything in flight is garbage.
    Garbage(u32),
    /// One drawn by lot.
    Sample(u32),
    /// One by its number among those that differ by sector.
    Sector(u32),
    /// One by its number among those that differ by page.
    Page(u32),
    /// One by its number among those that differ by call.
    Call(u32),
}

/// What a failed sync has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// Some of it, by lot.
    Sample(u32),
}

impl From<Kept> for Persisted {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Nothing => Self::Nothing,
            Kept::Everything => Self::Everything,
            Kept::Sample(seed) => Self::Sample(seed.into()),
        }
    }
}

/// An operation and its number, from which its bytes and the crash images around it are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// The number.
    pub salt: u32,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oldest => write!(f, "oldest"),
            Self::Newest => write!(f, "newest"),
            Self::Garbage(n) => write!(f, "garbage/{n}"),
            Self::Sample(n) => write!(f, "sample/{n}"),
            Self::Sector(n) => write!(f, "sector/{n}"),
            Self::Page(n) => write!(f, "page/{n}"),
            Self::Call(n) => write!(f, "call/{n}"),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing"),
            Self::Everything => write!(f, "everything"),
            Self::Sample(n) => write!(f, "sample/{n}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Op::Create(r) => write!(f, "create:{r}"),
            Op::Append(r, n) => write!(f, "append:{r}:{n}"),
            Op::Write(r, at, n) => write!(f, "write:{r}:{at}:{n}"),
            Op::Truncate(r, n) => write!(f, "truncate:{r}:{n}"),
            Op::TruncateWrite(r, at, n) => write!(f, "truncate-write:{r}:{at}:{n}"),
            Op::Replace(r, n) => write!(f, "replace:{r}:{n}"),
            Op::Rename(r, to) => write!(f, "rename:{r}:{to}"),
            Op::Remove(r) => write!(f, "remove:{r}"),
            Op::Reserve(r, n) => write!(f, "reserve:{r}:{n}"),
            Op::Pin(r) => write!(f, "pin:{r}"),
            Op::Unpin(k) => write!(f, "unpin:{k}"),
            Op::Flush(Durability::Sync) => write!(f, "flush"),
            Op::Flush(Durability::Process) => write!(f, "process"),
            Op::Checkpoint => write!(f, "checkpoint"),
            Op::Hold(n) => write!(f, "hold:{n}"),
            Op::During(call, n) => write!(f, "during:{call}:{n}"),
            Op::Compact(n) => write!(f, "compact:{n}"),
            Op::CompactStep(n) => write!(f, "compact-step:{n}"),
            Op::Look => write!(f, "look"),
            Op::Reopen => write!(f, "reopen"),
            Op::PowerCut(image) => write!(f, "power-cut:{image}"),
            Op::CutIn(call, image) => write!(f, "cut-in:{call}:{image}"),
            Op::KillIn(call) => write!(f, "kill-in:{call}"),
            Op::FailSync(nth, kept) => write!(f, "fail-sync:{nth}:{kept}"),
            Op::Full(pages) => write!(f, "full:{pages}"),
            Op::Lift => write!(f, "lift"),
        }?;
        write!(f, "#{}", self.salt)
    }
}

/// What is wrong with the text of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The word that makes no sense.
    pub word: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an operation or image: {:?}", self.word)
    }
}

impl std::error::Error for ParseError {}

fn parse_image(text: &str) -> Option<Image> {
    let (name, number) = text.split_once('/').unwrap_or((text, "0"));
    let number = number.parse().ok()?;
    Some(match name {
        "oldest" => Image::Oldest,
        "newest" => Image::Newest,
        "garbage" => Image::Garbage(number),
        "sample" => Image::Sample(number),
        "sector" => Image::Sector(number),
        "page" => Image::Page(number),
        "call" => Image::Call(number),
        _ => return None,
    })
}

fn parse_kept(text: &str) -> Option<Kept> {
    let (name, number) = text.split_once('/').unwrap_or((text, "0"));
    Some(match name {
        "nothing" => Kept::Nothing,
        "everything" => Kept::Everything,
        "sample" => Kept::Sample(number.parse().ok()?),
        _ => return None,
    })
}

fn parse(word: &str) -> Option<Step> {
    let (text, salt) = word.split_once('#').unwrap_or((word, "0"));
    let mut parts = text.split(':');
    let name = parts.next()?;
    let parts: Vec<&str> = parts.collect();
    let number = |at: usize| parts.get(at)?.parse::<u32>().ok();
    let small = |at: usize| parts.get(at)?.parse::<u8>().ok();
    let op = match name {
        "create" => Op::Create(small(0)?),
        "append" => Op::Append(small(0)?, number(1)?),
        "write" => Op::Write(small(0)?, number(1)?, number(2)?),
        "truncate" => Op::Truncate(small(0)?, number(1)?),
        "truncate-write" => Op::TruncateWrite(small(0)?, number(1)?, number(2)?),
        "replace" => Op::Replace(small(0)?, number(1)?),
        "rename" => Op::Rename(small(0)?, small(1)?),
        "remove" => Op::Remove(small(0)?),
        "reserve" => Op::Reserve(small(0)?, number(1)?),
        "pin" => Op::Pin(small(0)?),
        "unpin" => Op::Unpin(small(0)?),
        "flush" => Op::Flush(Durability::Sync),
        "process" => Op::Flush(Durability::Process),
        "checkpoint" => Op::Checkpoint,
        "hold" => Op::Hold(small(0)?),
        "during" => Op::During(small(0)?, small(1)?),
        "compact" => Op::Compact(number(0)?),
        "compact-step" => Op::CompactStep(number(0)?),
        "look" => Op::Look,
        "reopen" => Op::Reopen,
        "power-cut" => Op::PowerCut(parse_image(parts.first()?)?),
        "cut-in" => Op::CutIn(number(0)?, parse_image(parts.get(1)?)?),
        "kill-in" => Op::KillIn(number(0)?),
        "fail-sync" => Op::FailSync(number(0)?, parse_kept(parts.get(1)?)?),
        "full" => Op::Full(number(0)?),
        "lift" => Op::Lift,
        _ => return None,
    };
    Some(Step { op, salt: salt.parse().ok()? })
}

impl FromStr for Image {
    type Err = ParseError;

    fn from_str(word: &str) -> Result<Self, ParseError> {
        parse_image(word).ok_or_else(|| ParseError { word: word.into() })
    }
}

impl FromStr for Step {
    type Err = ParseError;

    fn from_str(word: &str) -> Result<Self, ParseError> {
        parse(word).ok_or_else(|| ParseError { word: word.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        let words = "create:1#2 append:0:5#0 write:1:2:3#4 truncate:0:1#9 truncate-write:0:1:2#3 \
                     replace:0:9#1 rename:0:1#0 remove:3#0 reserve:0:8#0 pin:0#0 unpin:1#0 flush#0 \
                     process#0 checkpoint#0 hold:3#0 during:1:2#0 look#0 reopen#0 compact:5#0 compact-step:0#0 \
                     power-cut:sample/7#0 cut-in:3:oldest#0 cut-in:1:page/9#1 kill-in:9#0 \
                     fail-sync:2:sample/4#0 full:3#0 lift#5 power-cut:garbage/1#0";
        for word in words.split_whitespace() {
            let step: Step = word.parse().expect("a step");
            let text = step.to_string();
            let text = text.replace("oldest/0", "oldest");
            assert_eq!(text, word);
        }
        assert!("append:0".parse::<Step>().is_err());
        assert!("nonsense#1".parse::<Step>().is_err());
        assert!("flush#x".parse::<Step>().is_err());
    }
}
