//! The steps of the tour, in order, and what each of them shows.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use allod::unix::UnixPlatform;
use allod::{Create, Error, FileStore, Options, Region};

use crate::change::Change;
use crate::compare::{self, Outcome, PIECE};
use crate::report::{self, Progress, Row, Usage, say};
use crate::tree::{self, Leaf, Stamp};

/// A round ends with a flush after so many bytes, or so many regions.
const ROUND_BYTES: u64 = 64 << 20;
const ROUND_REGIONS: u64 = 4096;
/// How much a compaction does before it tells how far it is, in bytes.
const COMPACT_STEP: u64 = 16 << 20;
/// How many differences are told one by one.
const TOLD: u64 = 10;

/// Why the tour ended before its end.
#[derive(Debug)]
pub(crate) enum End {
    Interrupted,
    Failed(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A region that was stored.
struct Stored {
    name: String,
    /// What the file was like when its bytes were stored.
    stamp: Stamp,
    /// How many bytes of it were stored.
    len: u64,
    change: Change,
    renamed: bool,
}

impl Stored {
    /// The name that the region has now.
    fn region(&self) -> String {
        if self.renamed { renamed(&self.name) } else { self.name.clone() }
    }
}

fn renamed(name: &str) -> String {
    format!("renamed/{name}")
}

/// What came out of it.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    compared: u64,
    compared_bytes: u64,
    /// Files that were changed by others while the tour was under way.
    changed: u64,
    unreadable: u64,
    /// Regions that are not what they must be.
    pub(crate) differences: u64,
}

impl Summary {
    /// Prints it.
    pub(crate) fn print(&self) {
        if self.unreadable > 0 {
            say(&format!("unreadable or gone: {}", report::grouped(self.unreadable)));
        }
        if self.changed > 0 {
            let count = report::grouped(self.changed);
            say(&format!("changed by others meanwhile, and not compared: {count}"));
        }
        let (count, bytes) = (report::grouped(self.compared), report::size(self.compared_bytes));
        match self.differences {
            0 => say(&format!("{count} regions with {bytes} compared: every byte is as expected")),
            some => say(&format!("{count} regions compared: {some} DIFFER")),
        }
    }
}

/// The tour under way.
pub(crate) struct Tour<'a> {
    root: &'a Path,
    path: PathBuf,
    store: FileStore,
    leaves: Vec<Leaf>,
    stored: Vec<Stored>,
    stopped: Arc<AtomicBool>,
    summary: Summary,
    /// What this round wrote since the last flush: bytes, regions.
    round: (u64, u64),
}

impl<'a> Tour<'a> {
    /// Makes the store.
    pub(crate) fn begin(
        root: &'a Path,
        path: &Path,
        leaves: Vec<Leaf>,
        stopped: Arc<AtomicBool>,
    ) -> Result<Self, End> {
        let store = allod::open_with(path, &Options::new().create(Create::Always))?;
        Ok(Self {
            root,
            path: path.to_path_buf(),
            store,
            leaves,
            stored: Vec::new(),
            stopped,
            summary: Summary::default(),
            round: (0, 0),
        })
    }

    /// Takes all steps.
    pub(crate) fn run(mut self) -> Result<Summary, End> {
        report::print_heading();
        self.store_files()?;
        self.append()?;
        self.overwrite()?;
        self.rename()?;
        self.remove()?;
        self.compact()?;
        self.reopen()?.compare()
    }

    fn check_stopped(&self) -> Result<(), End> {
        if self.stopped.load(Ordering::Relaxed) { Err(End::Interrupted) } else { Ok(()) }
    }

    /// Flushes if the round is full. What a flush holds in memory is bounded by that.
    fn end_round(&mut self, bytes: u64) -> Result<(), End> {
        self.round = (self.round.0 + bytes, self.round.1 + 1);
        if self.round.0 >= ROUND_BYTES || self.round.1 >= ROUND_REGIONS {
            self.round = (0, 0);
            self.store.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        self.round = (0, 0);
        self.store.flush()?;
        Ok(())
    }

    fn row(&self, step: &'static str, touched: u64, bytes: u64, time: Duration) -> Result<(), End> {
        let usage = self.store.disk_usage()?;
        let usage = Usage { live: usage.live, file: usage.file_len, on_disk: usage.allocated };
        let regions = self.store.len() as u64;
        Row { step, touched, bytes, time, regions, usage }.print();
        Ok(())
    }

    /// Each file becomes a region, piece by piece.
    fn store_files(&mut self) -> Result<(), End> {
        let leaves = std::mem::take(&mut self.leaves);
        let progress = Progress::of_bytes("store", leaves.iter().map(|leaf| leaf.stamp.len).sum());
        let mut buffer = vec![0; PIECE];
        let mut bytes = 0;
        for (number, leaf) in leaves.into_iter().enumerate() {
            match self.store_file(&leaf, &mut buffer, &progress)? {
                None => self.summary.unreadable += 1,
                Some((stamp, len)) => {
                    bytes += len;
                    let (name, change) = (leaf.name, Change::of(number));
                    self.stored.push(Stored { name, stamp, len, change, renamed: false });
                }
            }
        }
        self.flush()?;
        self.row("store", self.stored.len() as u64, bytes, progress.finish())
    }

    /// `None` if the file cannot be read.
    fn store_file(
        &mut self,
        leaf: &Leaf,
        buffer: &mut [u8],
        progress: &Progress,
    ) -> Result<Option<(Stamp, u64)>, End> {
        self.check_stopped()?;
        let Ok((file, stamp)) = tree::open(self.root, &leaf.name) else {
            progress.advance(leaf.stamp.len);
            return Ok(None);
        };
        // A file that grows while it is read would never end.
        let mut file = file.take(stamp.len);
        let region = self.store.create_region(&leaf.name)?;
        let mut appender = region.appender()?;
        let mut len = 0;
        loop {
            self.check_stopped()?;
            let n = match file.read(buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    drop(appender);
                    region.remove()?;
                    return Ok(None);
                }
            };
            appender.append(buffer.get(..n).unwrap_or_default())?;
            len += n as u64;
            progress.advance(n as u64);
            if self.round.0 + len >= ROUND_BYTES {
                self.round = (0, 0);
                self.store.flush()?;
            }
        }
        drop(appender);
        self.end_round(len)?;
        Ok(Some((stamp, len)))
    }

    /// Some regions get longer.
    fn append(&mut self) -> Result<(), End> {
        self.change("append", |store, stored| {
            let bytes = stored.change.appended();
            if bytes.is_empty() {
                return Ok(None);
            }
            region(store, stored)?.append(&bytes)?;
            Ok(Some(bytes.len() as u64))
        })
    }

    /// Some get other bytes in the middle.
    fn overwrite(&mut self) -> Result<(), End> {
        self.change("overwrite", |store, stored| {
            let Some((at, bytes)) = stored.change.overwritten(stored.len) else { return Ok(None) };
            region(store, stored)?.write_at(at, &bytes)?;
            Ok(Some(bytes.len() as u64))
        })
    }

    /// Some get another name.
    fn rename(&mut self) -> Result<(), End> {
        self.change("rename", |store, stored| {
            let to = renamed(&stored.name);
            if !stored.change.rename || !tree::is_region_name(&to) || store.contains(&to) {
                return Ok(None);
            }
            region(store, stored)?.rename(&to)?;
            stored.renamed = true;
            Ok(Some(0))
        })
    }

    /// Half of them go.
    fn remove(&mut self) -> Result<(), End> {
        self.change("remove", |store, stored| {
            if !stored.change.remove {
                return Ok(None);
            }
            let region = region(store, stored)?;
            let len = region.len()?;
            region.remove()?;
            Ok(Some(len))
        })
    }

    /// Goes over all regions, in rounds. `change` answers how many bytes it changed, if anything.
    fn change(
        &mut self,
        step: &'static str,
        mut change: impl FnMut(&FileStore, &mut Stored) -> Result<Option<u64>, Error>,
    ) -> Result<(), End> {
        let mut all = std::mem::take(&mut self.stored);
        let progress = Progress::of_regions(step, all.len() as u64);
        let (mut touched, mut bytes) = (0, 0);
        for stored in &mut all {
            self.check_stopped()?;
            if let Some(n) = change(&self.store, stored)? {
                touched += 1;
                bytes += n;
                self.end_round(n)?;
            }
            progress.advance(1);
        }
        self.stored = all;
        self.flush()?;
        self.row(step, touched, bytes, progress.finish())
    }

    /// The space of what is gone comes back: regions move down, and the file gets shorter.
    fn compact(&mut self) -> Result<(), End> {
        let progress = Progress::of_regions("compact", self.store.len() as u64);
        let done = self.store.compact_with(COMPACT_STEP, |done| {
            progress.reach(done.visited_regions);
            if self.stopped.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        self.check_stopped()?;
        self.row("compact", done.moved_regions, done.moved_bytes, progress.finish())
    }

    /// The same store, opened again, for reading only.
    fn reopen(self) -> Result<Self, End> {
        let started = Instant::now();
        // The lock on the file goes with the last handle.
        self.store.close()?;
        let tour = Self { store: allod::open_read_only(&self.path)?, ..self };
        tour.row("reopen", tour.store.len() as u64, 0, started.elapsed())?;
        Ok(tour)
    }

    /// Every byte of every region against the files.
    fn compare(mut self) -> Result<Summary, End> {
        let all = std::mem::take(&mut self.stored);
        let total = |stored: &Stored| stored.len + stored.change.append;
        let kept = || all.iter().filter(|stored| !stored.change.remove);
        let progress = Progress::of_bytes("compare", kept().map(total).sum());
        for stored in kept() {
            self.check_stopped()?;
            self.compare_one(stored)?;
            progress.advance(total(stored));
        }
        for stored in all.iter().filter(|stored| stored.change.remove) {
            if self.store.contains(&stored.region()) {
                self.differs(stored, "it was removed, and is there");
            }
        }
        let (found, expected) = (self.store.len(), kept().count());
        if found != expected {
            self.summary.differences += 1;
            say(&format!("the store has {found} regions instead of {expected}"));
        }
        let (count, bytes) = (self.summary.compared, self.summary.compared_bytes);
        self.row("compare", count, bytes, progress.finish())?;
        Ok(self.summary)
    }

    fn compare_one(&mut self, stored: &Stored) -> Result<(), End> {
        let Some(region) = self.store.region(&stored.region()) else {
            self.differs(stored, "it is not there");
            return Ok(());
        };
        let reader = region.reader()?;
        let Stored { name, stamp, len, change, .. } = stored;
        match compare::compare(self.root, name, *stamp, *len, change, &reader)? {
            Outcome::Same => {
                self.summary.compared += 1;
                self.summary.compared_bytes += reader.len();
            }
            Outcome::SourceChanged => self.summary.changed += 1,
            Outcome::Differs(why) => self.differs(stored, &why),
        }
        Ok(())
    }

    fn differs(&mut self, stored: &Stored, why: &str) {
        self.summary.differences += 1;
        if self.summary.differences <= TOLD {
            say(&format!("{:?} differs: {why}", stored.region()));
        }
    }
}

fn region(store: &FileStore, stored: &Stored) -> Result<Region<UnixPlatform>, Error> {
    let name = stored.region();
    store.region(&name).ok_or(Error::NoRegion { name: name.into() })
}
