//! A store at work: random calls of every kind, each made of the store and of a model of it, so that
//! the state is known at every moment. The calls depend on the seed and on the store's state alone.
//!
//! A call that fails must leave the store as it was: the model then does not follow it.

use std::collections::BTreeMap;

use allod::{Durability, Error, FileStore, Options, Platform, Region, Result, Store};

use super::{Ledger, Report};

/// A generator of numbers: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// Mostly short, sometimes long.
    fn bytes(&mut self) -> Vec<u8> {
        let most = [10, 100, 1000, 5000, 10_000, 30_000, 80_000, 200_000];
        let size = self.below(8) * self.below(8) / 7;
        let len = self.below(most[size as usize]) + 1;
        let mut numbers = Random(self.next());
        let mut bytes = Vec::with_capacity(len as usize + 7);
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&numbers.next().to_le_bytes());
        }
        bytes.truncate(len as usize);
        bytes
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number that stands for a region, its name, its id and all its bytes.
fn region_digest(name: &str, id: u64, bytes: &[u8]) -> u64 {
    let mut sum = mix(id ^ 0x5bd1_e995);
    for part in [name.as_bytes(), bytes] {
        for piece in part.chunks(8) {
            let mut number = [0; 8];
            number[..piece.len()].copy_from_slice(piece);
            sum = (sum ^ u64::from_le_bytes(number)).wrapping_mul(0x9fb2_1c65_1e98_df25);
            sum ^= sum >> 29;
        }
        sum = mix(sum ^ part.len() as u64);
    }
    sum
}

/// A number that stands for all that a store holds: names, ids, lengths and bytes.
///
/// # Errors
///
/// If a region cannot be read.
pub fn digest<P: Platform>(store: &Store<P>) -> Result<u64> {
    let mut sum = 0_u64;
    for info in store.regions() {
        let Some(region) = store.region(&info.name) else { continue };
        let bytes = region.reader()?;
        let bytes = bytes.read_all()?;
        assert_eq!(bytes.len() as u64, info.len, "the length of {}", info.name);
        sum = sum.wrapping_add(region_digest(&info.name, info.id, &bytes));
    }
    Ok(sum)
}

struct Known {
    id: u64,
    bytes: Vec<u8>,
    digest: u64,
}

/// A store, and what it must hold.
pub struct Work {
    pub store: FileStore,
    regions: BTreeMap<String, Known>,
    random: Random,
    /// Names given so far in this life.
    names: u64,
    limit: u64,
}

impl Work {
    /// Small enough for every structure to be reused often.
    pub fn options() -> Options {
        Options::new().journal_size(256 << 10).inline_limit(48 << 10).memory_budget(512 << 10)
    }

    /// Goes on with a store that was just opened. Its regions together get about `limit` bytes.
    ///
    /// # Errors
    ///
    /// If a region cannot be read.
    pub fn new(store: FileStore, seed: u64, limit: u64) -> Result<Self> {
        let mut work = Self {
            store,
            regions: BTreeMap::new(),
            random: Random(seed),
            names: seed << 20,
            limit,
        };
        for info in work.store.regions() {
            let bytes = work.region(&info.name)?.read_all()?;
            work.regions.insert(info.name, Known { id: info.id, bytes, digest: 0 });
        }
        work.regions.iter_mut().for_each(|(name, known)| known.sum(name));
        Ok(work)
    }

    fn region(&self, name: &str) -> Result<Region<allod::unix::UnixPlatform>> {
        self.store.region(name).ok_or_else(|| Error::NoRegion { name: name.into() })
    }

    /// What the store must hold, as a number.
    pub fn state(&self) -> u64 {
        self.regions.values().fold(0, |sum, known| sum.wrapping_add(known.digest))
    }

    /// Fails unless the store holds just what it must.
    #[track_caller]
    pub fn check(&self) {
        let found = digest(&self.store).expect("reading");
        if found == self.state() {
            return;
        }
        let names: Vec<_> = self.store.regions().into_iter().map(|info| info.name).collect();
        assert_eq!(names, self.regions.keys().cloned().collect::<Vec<_>>());
        for (name, known) in &self.regions {
            let region = self.region(name).expect("a listed region");
            assert_eq!(region.id(), known.id, "the id of {name}");
            let bytes = region.read_all().expect("reading");
            assert_eq!(bytes.len(), known.bytes.len(), "the length of {name}");
            let wrong = bytes.iter().zip(&known.bytes).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "the first wrong byte of {name}");
        }
        panic!("the digest is wrong, and nothing else");
    }

    /// One change of the store. If it fails, the store is as before.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn change(&mut self) -> Result<()> {
        let held: u64 = self.regions.values().map(|known| known.bytes.len() as u64).sum();
        // It grows to between half of the limit and all of it.
        let kinds = match held {
            _ if held > self.limit => 80..100,
            _ if held < self.limit / 2 && self.random.below(64) > 0 => 0..80,
            _ => 0..100,
        };
        let kind = kinds.start + self.random.below(kinds.end - kinds.start);
        let choice = self.random.next();
        let data = self.random.bytes();
        let count = self.regions.len() as u64;
        let chosen = self.regions.keys().nth((choice % count.max(1)) as usize).cloned();
        let name = match chosen {
            Some(name) if count >= 12 || kind >= 12 => name,
            _ => return self.create(&data),
        };
        let region = self.region(&name)?;
        let Some(known) = self.regions.get_mut(&name) else { return Ok(()) };
        let len = known.bytes.len() as u64;
        let at = self.random.below(len + 1);
        match kind {
            0..=49 => {
                assert_eq!(region.append(&data)?, len);
                known.bytes.extend_from_slice(&data);
            }
            50..=74 => {
                region.write_at(at, &data)?;
                let end = (at as usize + data.len()).min(known.bytes.len());
                known.bytes.splice(at as usize..end, data);
            }
            75..=79 => {
                let mut appender = region.appender()?;
                for piece in data.chunks(333) {
                    // Each piece is a call of its own, that may fail by itself.
                    appender.append(piece)?;
                    known.bytes.extend_from_slice(piece);
                    known.sum(&name);
                }
            }
            80..=84 => {
                region.truncate(at)?;
                known.bytes.truncate(at as usize);
            }
            85..=88 => {
                region.truncate_write(at, &data)?;
                known.bytes.truncate(at as usize);
                known.bytes.extend_from_slice(&data);
            }
            89..=91 => {
                region.replace(&data)?;
                known.bytes = data;
            }
            92..=94 => {
                let new = self.new_name();
                region.rename(&new)?;
                if let Some(mut known) = self.regions.remove(&name) {
                    known.sum(&new);
                    self.regions.insert(new, known);
                }
                return Ok(());
            }
            _ => {
                region.remove()?;
                self.regions.remove(&name);
                return Ok(());
            }
        }
        known.sum(&name);
        Ok(())
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("region {}", self.names)
    }

    fn create(&mut self, data: &[u8]) -> Result<()> {
        let name = self.new_name();
        let region = self.store.create_region(&name)?;
        let id = region.id();
        let appended = region.append(data);
        let bytes = if appended.is_ok() { data.to_vec() } else { Vec::new() };
        let mut known = Known { id, bytes, digest: 0 };
        known.sum(&name);
        self.regions.insert(name, known);
        appended.map(drop)
    }

    /// One flush of some kind, told to the ledger.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn flush(&mut self, ledger: &mut Ledger) -> Result<()> {
        let state = self.state();
        ledger.begin(state);
        let done = match self.random.below(20) {
            0..=8 => self.store.flush().map(drop),
            9..=14 => self.store.flush_with(Durability::Process).map(drop),
            15..=16 => self.store.hold()?.flush().map(drop),
            17..=18 => self.store.checkpoint().map(drop),
            _ => self.store.compact().map(drop),
        };
        if done.is_ok() {
            ledger.acknowledge(state);
        }
        done
    }

    /// The same, told to the parent of this process as well.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn flush_and_tell(&mut self, ledger: &mut Ledger) -> Result<()> {
        Report::Begin(self.state()).tell();
        self.flush(ledger)?;
        Report::Acknowledged(self.state()).tell();
        Ok(())
    }

    /// The same for a compaction, which is made of flushes.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn compact_and_tell(&mut self, ledger: &mut Ledger) -> Result<()> {
        let state = self.state();
        Report::Begin(state).tell();
        ledger.begin(state);
        self.store.compact()?;
        ledger.acknowledge(state);
        Report::Acknowledged(state).tell();
        Ok(())
    }

    /// A number that decides something, from the same source as all others.
    pub fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }
}

impl Known {
    fn sum(&mut self, name: &str) {
        self.digest = region_digest(name, self.id, &self.bytes);
    }
}
