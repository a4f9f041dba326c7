//! The checker for code of your own: [`Checker`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use allod_core::{Create, Options, Store};
use allod_mem::{Operation, SimDisk};

use crate::effort::Effort;
use crate::images;
use crate::panics::caught;
use crate::prng::mix;
use crate::step::Image;

/// Crashes code that works on a store at every call that the store makes to its disk, and asks
/// whether what is recovered is as that code promises.
///
/// The store itself promises that what is recovered is the state of the last flush that returned,
/// or of the one under way. What *your* state means, which flush belongs to which of your
/// operations, and that you flush at all where you should, is what this finds out.
///
/// Everything is deterministic, as long as the code under test is: the same seed tries the same
/// crash images. Costs some ten microseconds an image, and some hundred thousand of them for a
/// thousand flushes.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use allod_check::Checker;
///
/// // Money moves between two accounts. What was acknowledged must stay, and none may get lost.
/// let acknowledged = Arc::new(AtomicU64::new(0));
/// let promised = Arc::clone(&acknowledged);
/// let report = Checker::new(1).run(
///     |store| {
///         let (ann, bob) = (store.create_region("ann")?, store.create_region("bob")?);
///         for moved in 0..=5u64 {
///             let hold = store.hold()?; // Both, or neither.
///             ann.replace(&(100 - moved).to_le_bytes())?;
///             bob.replace(&moved.to_le_bytes())?;
///             hold.flush()?;
///             acknowledged.store(moved, Ordering::SeqCst);
///         }
///         Ok::<(), allod_core::Error>(())
///     },
///     move |recovered| {
///         let balance = |name| {
///             let bytes = recovered.region(name)?.read_all().ok()?;
///             Some(u64::from_le_bytes(bytes.try_into().ok()?))
///         };
///         let promised = promised.load(Ordering::SeqCst);
///         match (balance("ann"), balance("bob")) {
///             (Some(ann), Some(bob)) if ann + bob == 100 && bob >= promised => Ok(()),
///             (None, None) if promised == 0 => Ok(()),
///             other => Err(format!("{other:?} after {promised} were acknowledged")),
///         }
///     },
/// )?;
/// assert!(report.states > 100);
/// # Ok::<(), allod_check::Broken>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checker {
    seed: u64,
    options: Options,
    effort: Effort,
    only: Option<(u64, Image)>,
}

/// What a [`Checker`] has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Crash images on which a store was opened and the invariant asked.
    pub states: u64,
    /// Calls of the store to the disk after which that was done.
    pub calls: u64,
}

/// What a [`Checker`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong, in the words of the invariant or of the store.
    pub what: String,
    /// The seed of the checker.
    pub seed: u64,
    /// After which call to the disk, counted from 1 since the work began, which call it was, and
    /// on which image; `None` if it was not on an image, but the work failed.
    pub crash: Option<(u64, String, Image)>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some((call, operation, image)) = &self.crash {
            let seed = self.seed;
            write!(f, " (crash at call {call}, {operation}, image {image}; seed {seed})")?;
        }
        Ok(())
    }
}

impl StdError for Broken {}

/// What the invariant is asked, and what it has said.
struct Watch<I> {
    checker: Checker,
    invariant: I,
    calls: AtomicU64,
    states: AtomicU64,
    broken: Mutex<Option<Broken>>,
}

impl Checker {
    /// A checker that draws crash images by this seed, on a store with small numbers for everything,
    /// so that all of its machinery is at work soon.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let options = Options::new().journal_size(32 << 10).inline_limit(8 << 10);
        let effort = Effort { enumerate: 200, samples: 12, ..Effort::default() };
        Self { seed, options: options.memory_budget(64 << 10), effort, only: None }
    }

    /// Makes and opens stores with these options instead.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// At each call all images are looked at if there are no more than `all` (default: 200), else
    /// the extremes and `by_lot` others (default: 12).
    #[must_use]
    pub fn images(mut self, all: u64, by_lot: u32) -> Self {
        self.effort.enumerate = all;
        self.effort.samples = by_lot;
        self
    }

    /// Looks at one image only: that which a [`Broken`] tells of, to step through it.
    #[must_use]
    pub fn only(mut self, call: u64, image: Image) -> Self {
        self.only = Some((call, image));
        self
    }

    /// Makes a store, does `work` on it, crashes it at every call that it makes to its disk, opens a
    /// store on each crash image that there may be, and asks `invariant` about it.
    ///
    /// The invariant is asked while `work` is under way, inside the calls that `work` makes: what it
    /// is to know of the progress, it can read from atomics that `work` writes. It gets a store
    /// of its own, and may change that.
    ///
    /// # Errors
    ///
    /// The first thing that was wrong: the invariant said so or panicked, no store could be opened
    /// on an image, or `work` failed or panicked.
    pub fn run<E: fmt::Display>(
        &self,
        work: impl FnOnce(&Store<SimDisk>) -> Result<(), E>,
        invariant: impl Fn(&Store<SimDisk>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Report, Broken> {
        let failed = |what: String| Broken { what, seed: self.seed, crash: None };
        let disk = SimDisk::new(self.seed);
        let making = self.options.clone().create(Create::Always);
        let store = making.open(disk.clone()).map_err(|error| failed(error.to_string()))?;
        let watch = Arc::new(Watch {
            checker: self.clone(),
            invariant,
            calls: AtomicU64::new(0),
            states: AtomicU64::new(0),
            broken: Mutex::new(None),
        });
        let watching = Arc::clone(&watch);
        disk.set_observer(Some(Arc::new(move |disk: &SimDisk, operation: &Operation| {
            watching.look(disk, operation);
        })));
        let done = caught(|| work(&store));
        disk.set_observer(None);
        if let Some(broken) = watch.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(broken);
        }
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(format!("the work failed: {error}"))),
            Err(panic) => return Err(failed(format!("the work failed: {panic}"))),
        }
        let states = watch.states.load(Ordering::SeqCst);
        Ok(Report { states, calls: watch.calls.load(Ordering::SeqCst) })
    }
}

impl<I: Fn(&Store<SimDisk>) -> Result<(), String>> Watch<I> {
    /// Looks at the crash images of the moment.
    fn look(&self, disk: &SimDisk, operation: &Operation) {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let Checker { seed, effort, only, .. } = &self.checker;
        match *only {
            Some((at, image)) if at == call => {
                let disk = images::make(disk, image);
                self.ask(disk, (call, operation, image));
            }
            Some(_) => {}
            None => {
                let choice = images::choose(disk, effort, mix(*seed, call), 0);
                for image in choice.images(false) {
                    if !self.ask(choice.make(disk, image), (call, operation, image)) {
                        break;
                    }
                }
            }
        }
    }

    /// Asks about one image; answers whether to go on.
    fn ask(&self, disk: Option<SimDisk>, at: (u64, &Operation, Image)) -> bool {
        let Some(disk) = disk else { return true };
        self.states.fetch_add(1, Ordering::SeqCst);
        let asked = caught(|| {
            let opened = self.checker.options.clone().create(Create::Never).open(disk);
            let store = opened.map_err(|error| format!("recovery: {error}"))?;
            (self.invariant)(&store)
        });
        let Err(what) = asked.unwrap_or_else(Err) else { return true };
        let (call, operation, image) = at;
        let crash = Some((call, operation.to_string(), image));
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(Broken { what, seed: self.checker.seed, crash });
        false
    }
}
