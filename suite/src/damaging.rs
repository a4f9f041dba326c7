//! Damage: bits that flip and files that are cut short. Opening gives an error or a state that a
//! flush returned; never a mixture, never a panic.

use allod_core::{Error, Options, Platform};

use crate::bench::*;

/// A store at rest, and every state that a flush of it returned, the newest last.
struct Victim<B> {
    bench: B,
    states: Vec<Content>,
    options: Options,
}

/// The smallest store there can be, so that every bit of it can be tried.
fn tiny() -> Options {
    Options::new().journal_size(0)
}

fn victim<B: Bench>(script: impl Fn(&On<B>, &mut dyn FnMut())) -> Victim<B> {
    let bench = B::fresh();
    let options = tiny();
    let live = options.open(bench.platform()).unwrap();
    let states = std::cell::RefCell::new(vec![Content::new()]);
    script(&live, &mut || {
        live.flush().unwrap();
        states.borrow_mut().push(content(&live));
    });
    drop(live);
    Victim { bench, states: states.into_inner(), options }
}

fn fresh<B: Bench>() -> Victim<B> {
    victim(|_, _| {})
}

fn flushed<B: Bench>() -> Victim<B> {
    victim(|live, flush| {
        let a = region(live, "a", b"hello");
        flush();
        a.append(b", world").unwrap();
        flush();
    })
}

/// Overwritten bytes, a removal, a rename, and a journal that is nearly full.
fn busy<B: Bench>() -> Victim<B> {
    victim(|live, flush| {
        let a = region(live, "a", &pattern(1, 5000));
        let b = region(live, "b", &pattern(2, 100));
        flush();
        live.checkpoint().unwrap();
        a.write_at(4000, b"overwritten").unwrap();
        flush();
        b.rename("c").unwrap();
        region(live, "d", b"d");
        flush();
        live.remove_region("d").unwrap();
        a.write_at(4002, b"ERWR").unwrap();
        flush();
    })
}

/// Right behind a checkpoint of more than one region.
fn checkpointed<B: Bench>() -> Victim<B> {
    victim(|live, flush| {
        let a = region(live, "a", &pattern(1, 4097));
        region(live, "b", b"b");
        flush();
        let _pinned = a.reader().unwrap();
        a.write_at(5, b"carried").unwrap();
        live.checkpoint().unwrap();
        flush();
    })
}

/// Many generations: places were used again, so that the older slot names what is gone.
fn old<B: Bench>() -> Victim<B> {
    victim(|live, flush| {
        for i in 0..14u64 {
            let name = format!("r{}", i % 3);
            if i > 4 && i % 2 == 0 {
                live.region(&name).unwrap().write_at(i * 10, &pattern(i, 2000)).unwrap();
            } else {
                live.region_or_create(&name).unwrap().replace(&pattern(i, 3000)).unwrap();
            }
            if i % 5 == 3 {
                live.checkpoint().unwrap();
            }
            flush();
        }
    })
}

/// The generation, and the first pages of the checkpoint and of the journal, that a slot states
/// (FORMAT.md, "The superblock").
fn slot(bytes: &[u8], page: usize) -> (u64, u64, u64) {
    let field = |at: usize| {
        let at = page * 4096 + at;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    (field(56), field(72), field(96))
}

/// Two generations, of which the newer one lies behind everything else in the file, and has changed
/// a page in place that the older one knows nothing of.
fn overtaken<B: Bench>() -> Victim<B> {
    let bench = B::fresh();
    let options = tiny();
    let live = options.open(bench.platform()).unwrap();
    let mut states = vec![Content::new()];
    let a = region(&live, "a", &pattern(1, 9000));
    live.checkpoint().unwrap();
    states.push(content(&live));
    let newest_is_last = || {
        let bytes = bench.bytes();
        let (one, two) = (slot(&bytes, 0), slot(&bytes, 1));
        let (new, old) = if one.0 > two.0 { (one, two) } else { (two, one) };
        let regions = live.regions().iter().map(|region| region.start / 4096).max();
        // Generation 1 is the empty store, which knows no region to mistake.
        old.0 > 1 && new.2 > old.1.max(old.2).max(regions.unwrap())
    };
    let mut rounds = 0;
    while !newest_is_last() {
        rounds += 1;
        assert!(rounds < 40, "no generation comes to lie at the end of the file");
        // A larger table needs another place.
        live.create_region(&format!("{}{rounds}", "long name ".repeat(20))).unwrap();
        live.checkpoint().unwrap();
        states.push(content(&live));
    }
    a.write_at(8200, b"changed in place").unwrap();
    live.flush().unwrap();
    states.push(content(&live));
    assert!(newest_is_last(), "the change was no checkpoint");
    drop((a, live));
    Victim { bench, states, options }
}

impl<B: Bench> Victim<B> {
    /// The bytes of regions in their places, as ranges of the file.
    fn places(&self) -> Vec<std::ops::Range<usize>> {
        let live = self.options.clone().read_only(true).open(self.bench.platform()).unwrap();
        live.regions()
            .iter()
            .map(|region| region.start as usize..(region.start + region.len) as usize)
            .collect()
    }

    /// Opens the harmed bytes and says whether what it found is right.
    fn is_right(&self, bench: &B, in_place: bool) -> Result<(), String> {
        match self.options.clone().read_only(true).open(bench.platform()) {
            Err(Error::Damaged(_) | Error::NotAStore { .. } | Error::Newer { .. }) => Ok(()),
            Err(Error::ReadOnly) => Err("taken for a creation that never finished".into()),
            Err(error) => Err(format!("the wrong error: {error:?}")),
            Ok(store) => match try_content(&store) {
                Err(error) => Err(format!("opens, and then: {error}")),
                Ok(left) if self.states.contains(&left) => Ok(()),
                Ok(left) if in_place => {
                    let newest = self.states.last().unwrap();
                    let bytes = |content: &Content| content.values().flatten().copied().collect();
                    let (now, then): (Vec<u8>, Vec<u8>) = (bytes(&left), bytes(newest));
                    let differ = now.iter().zip(&then).filter(|(a, b)| a != b);
                    let same_shape = left.keys().eq(newest.keys()) && now.len() == then.len();
                    if same_shape && differ.count() == 1 {
                        Ok(())
                    } else {
                        Err("more than the flipped byte changed".into())
                    }
                }
                Ok(_) => Err("a state that no flush returned".into()),
            },
        }
    }

    fn flips(&self) {
        let bytes = self.bench.bytes();
        let places = self.places();
        let mut failures = Vec::new();
        let mut tried = 0;
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 600;
        for bit in (0..end.min(bytes.len()) * 8).step_by(B::STRIDE) {
            let at = bit / 8;
            // Zeros between the structures: one bit of each few bytes will do.
            let near = at.saturating_sub(16)..(at + 16).min(bytes.len());
            if bit % 61 != 0 && bytes[near].iter().all(|byte| *byte == 0) {
                continue;
            }
            let flipped = [bytes[at] ^ 1 << (bit % 8)];
            self.bench.platform().write(at as u64, &flipped).unwrap();
            let in_place = places.iter().any(|place| place.contains(&at));
            if let Err(error) = self.is_right(&self.bench, in_place) {
                failures.push(format!("bit {} of byte {at}: {error}", bit % 8));
            }
            self.bench.platform().write(at as u64, &bytes[at..=at]).unwrap();
            tried += 1;
        }
        let some: Vec<_> = failures.iter().take(10).collect();
        assert!(failures.is_empty(), "{} of {tried} flips: {some:#?}", failures.len());
        assert!(self.is_right(&self.bench, false).is_ok());
    }

    fn cuts(&self) {
        let bytes = self.bench.bytes();
        let mut failures = Vec::new();
        let odd = [0, 1, 7, 8, 100, 511, 512, 513, 4095];
        let lens = (0..bytes.len().div_ceil(4096)).flat_map(|page| {
            let from = page * 4096;
            odd.iter().map(move |more| from + more)
        });
        for len in lens.filter(|len| *len > 0 && *len < bytes.len()) {
            let bench = B::holding(&bytes[..len]);
            if let Err(error) = self.is_right(&bench, false) {
                failures.push(format!("cut to {len} of {}: {error}", bytes.len()));
            }
        }
        let some: Vec<_> = failures.iter().take(10).collect();
        assert!(failures.is_empty(), "{} cuts: {some:#?}", failures.len());
    }
}

pub fn flipping_any_bit_of_a_fresh_store<B: Bench>() {
    fresh::<B>().flips();
}

pub fn flipping_any_bit_after_two_flushes<B: Bench>() {
    flushed::<B>().flips();
}

pub fn flipping_any_bit_after_every_kind_of_change<B: Bench>() {
    busy::<B>().flips();
}

pub fn flipping_any_bit_after_a_checkpoint<B: Bench>() {
    checkpointed::<B>().flips();
}

pub fn flipping_any_bit_after_many_generations<B: Bench>() {
    old::<B>().flips();
}

pub fn cutting_a_fresh_store_anywhere<B: Bench>() {
    fresh::<B>().cuts();
}

pub fn cutting_after_two_flushes_anywhere<B: Bench>() {
    flushed::<B>().cuts();
}

pub fn cutting_after_every_kind_of_change_anywhere<B: Bench>() {
    busy::<B>().cuts();
}

pub fn cutting_after_a_checkpoint_anywhere<B: Bench>() {
    checkpointed::<B>().cuts();
}

pub fn cutting_after_many_generations_anywhere<B: Bench>() {
    old::<B>().cuts();
}

pub fn flipping_any_bit_after_a_generation_was_overtaken<B: Bench>() {
    overtaken::<B>().flips();
}

pub fn cutting_after_a_generation_was_overtaken_anywhere<B: Bench>() {
    overtaken::<B>().cuts();
}

pub fn whatever_opens_after_a_flip_goes_on_rightly<B: Bench>() {
    for victim in [flushed::<B>(), busy(), checkpointed(), old(), overtaken()] {
        let bytes = victim.bench.bytes();
        for bit in (0..bytes.len() * 8).step_by(1009 * B::STRIDE.min(7)) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let bench = B::holding(&flipped);
            let Ok(live) = victim.options.open(bench.platform()) else {
                assert!(bench.bytes() == flipped, "refusing changed the bytes");
                continue;
            };
            let mut expected = content(&live);
            region(&live, "more", &pattern(9, 9000));
            expected.insert("more".into(), pattern(9, 9000));
            live.flush().unwrap();
            assert!(content(&live) == expected, "bit {bit}");
            drop(live);
            assert!(content(&reopen(&bench)) == expected, "bit {bit}, reopened");
        }
    }
}

pub fn zeroing_or_garbling_any_page<B: Bench>() {
    for victim in [flushed::<B>(), busy(), checkpointed(), old(), overtaken()] {
        let bytes = victim.bench.bytes();
        let places = victim.places();
        for page in 0..bytes.len() / 4096 {
            let range = page * 4096..(page + 1) * 4096;
            if places.iter().any(|place| place.start < range.end && range.start < place.end) {
                continue; // The bytes of a region are what they are.
            }
            for garbage in [vec![0; 4096], vec![0xff; 4096], pattern(page as u64, 4096)] {
                let mut harmed = bytes.clone();
                harmed[range.clone()].copy_from_slice(&garbage);
                let bench = B::holding(&harmed);
                if let Err(error) = victim.is_right(&bench, false) {
                    panic!("page {page} of {} became {:02x}…: {error}", bytes.len(), garbage[0]);
                }
            }
        }
    }
}
