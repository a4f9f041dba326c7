//! The simulated disk: [`SimDisk`].
//!
//! What lies in flight and why is in `medium` and `flight`, what a crash makes of it in `crash` and
//! `images`, what else goes wrong in `disk_fault`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use allod_core::platform::{Capabilities, NoMapping, Platform, check_range};
use allod_core::{PlatformError, PlatformErrorKind};

use crate::crash::{CrashPlan, InFlight, Sampler, in_flight};
use crate::disk_fault::{DiskFault, Faults, SyncFault};
use crate::images::{Grain, Images};
use crate::locks::{self, Mutex, RawMutex, RawRwLock};
use crate::medium::Medium;
use crate::mem::{check_capacity, collect, end_of, whole_pages};
use crate::operation::Operation;
use crate::pages::PAGE_SIZE;
use crate::prng::Prng;

/// A disk that remembers what is not durable yet, and can lose it.
///
/// Reads see every write at once, as through the cache of an operating system. Behind it, the disk
/// keeps every version of each sector (512 bytes) since it was last durable:
///
/// * writing any byte of a page (4 KiB) puts all its sectors in flight;
/// * growing and cutting are versions of the length; cutting inside a page writes that page;
///   cutting off or punching whole pages is a version of them that is zeros;
/// * [`sync`](Platform::sync) makes everything durable;
///   [`write_sync`](Platform::write_sync) only the sectors it writes, with a length that covers
///   them: the other sectors of its pages, and other changes of the length, stay in flight.
///
/// A *crash image* is a new disk that holds what one power cut may leave: of each sector in flight
/// any version, a torn mix of two, or garbage (a sector that was cut off but not written: no
/// garbage), and of the length any version. Make one with [`crash`](Self::crash) or
/// [`sample`](Self::sample), or all with [`images`](Self::images). Making one costs what is in
/// flight, not the size of the disk. A process that dies without a power cut leaves
/// [`kill`](Self::kill).
///
/// A value is a *handle*: [`Clone`] gives another one to the same disk, so that a test keeps one
/// while a store owns the other. Everything is deterministic: the seed fixes
/// [`entropy`](Platform::entropy), there is no clock and no randomness else.
///
/// Versions take memory, a page for each write to a page, until a sync; give long histories syncs.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use allod_core::platform::Platform;
/// use allod_mem::{Grain, SimDisk};
///
/// // Money moves from one page to another, through a disk that may lose power at any call.
/// let disk = SimDisk::new(42);
/// disk.write(0, &[10])?;
/// disk.write(4096, &[0])?;
/// disk.sync()?;
///
/// let torn = Arc::new(AtomicU32::new(0));
/// let found = Arc::clone(&torn);
/// disk.set_observer(Some(Arc::new(move |disk: &SimDisk, _: &_| {
///     for image in disk.images(Grain::Page).iter() {
///         let bytes = image.to_bytes().unwrap();
///         if u32::from(bytes[0]) + u32::from(bytes[4096]) != 10 {
///             found.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// })));
/// disk.write(0, &[9])?;
/// disk.write(4096, &[1])?;
/// disk.sync()?;
/// assert!(torn.load(Ordering::Relaxed) > 0, "two writes are not atomic");
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// What [`SimDisk::set_observer`] takes.
pub type Observer = Arc<dyn Fn(&SimDisk, &Operation) + Send + Sync>;

/// What a crash image has in common with its disk.
#[derive(Clone)]
pub(crate) struct Settings {
    entropy: Prng,
    /// In pages.
    capacity: Option<u64>,
}

struct State {
    medium: Medium,
    settings: Settings,
    faults: Faults,
    operations: u64,
    observer: Option<Observer>,
}

impl SimDisk {
    /// An empty disk. The seed fixes what [`Platform::entropy`] answers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_bytes(seed, &[])
    }

    /// A disk on which a copy of `bytes` is durable.
    #[must_use]
    pub fn from_bytes(seed: u64, bytes: &[u8]) -> Self {
        let settings = Settings { entropy: Prng::new(seed), capacity: None };
        Self::from_medium(Medium::from_bytes(bytes), settings)
    }

    pub(crate) fn from_medium(medium: Medium, settings: Settings) -> Self {
        let state =
            State { medium, settings, faults: Faults::default(), operations: 0, observer: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// All bytes as reads see them, holes as zeros. For those that are durable, ask the image
    /// `crash(&CrashPlan::oldest())`.
    ///
    /// # Errors
    ///
    /// [`PlatformErrorKind::NoSpace`] when the machine has no memory for so many.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlatformError> {
        let state = self.state.lock();
        collect(state.medium.cache(), state.medium.len())
    }

    /// The crash image that a plan describes. It has the capacity and the sequence of
    /// [`entropy`](Platform::entropy) of this disk, but no faults and no observer, and nothing is
    /// in flight on it.
    #[must_use]
    pub fn crash(&self, plan: &CrashPlan) -> Self {
        let state = self.state.lock();
        Self::from_medium(plan.apply(&state.medium), state.settings.clone())
    }

    /// A crash image drawn by lot: the same for the same history and seed. The draws lean in
    /// several ways (sectors or pages on their own, nearly all or nearly nothing survived), and
    /// half of them tear sectors and leave garbage.
    #[must_use]
    pub fn sample(&self, seed: u64) -> Self {
        let state = self.state.lock();
        Self::from_medium(Sampler::new(seed).apply(&state.medium), state.settings.clone())
    }

    /// The plan of the crash image that [`sample`](Self::sample) draws with that seed, to print
    /// and to shrink.
    #[must_use]
    pub fn sample_plan(&self, seed: u64) -> CrashPlan {
        Sampler::new(seed).plan(&self.state.lock().medium)
    }

    /// All crash images of this moment, as coarse as the grain.
    #[must_use]
    pub fn images(&self, grain: Grain) -> Images {
        let state = self.state.lock();
        Images::new(state.medium.clone(), state.settings.clone(), grain)
    }

    /// The disk that a new process finds after this one died without a power cut: an independent
    /// disk with the same cache, and the same sectors still in flight. It has no faults and no
    /// observer. Costs what is in flight.
    #[must_use]
    pub fn kill(&self) -> Self {
        let state = self.state.lock();
        Self::from_medium(state.medium.clone(), state.settings.clone())
    }

    /// The sectors in flight, in order.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        in_flight(&self.state.lock().medium)
    }

    /// The lengths that a crash may leave, in the order of [`CrashPlan::length`]: the durable one,
    /// then each since.
    #[must_use]
    pub fn lengths(&self) -> Vec<u64> {
        self.state.lock().medium.lengths().map(|(_, len)| len).collect()
    }

    /// Adds a fault to those that wait.
    pub fn inject(&self, fault: DiskFault) {
        let mut state = self.state.lock();
        match fault {
            DiskFault::FlipBit { offset, bit } => state.medium.flip_bit(offset, bit),
            later => state.faults.add(later),
        }
    }

    /// Forgets the faults that wait.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Limits the bytes taken, rounded down to whole pages, or lifts the limit. Writes that would
    /// take more fail with [`PlatformErrorKind::NoSpace`] and change nothing. Length costs nothing.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().settings.capacity = bytes.map(|bytes| bytes / u64::from(PAGE_SIZE));
    }

    /// How many calls so far could change something or make it durable: `grow`, `cut`, `write`,
    /// `write_sync`, `sync`, `punch`. Each counts when it begins.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Sets who is told of every call that [`operations`](Self::operations) counts, or nobody.
    ///
    /// The observer is called after the call, whether it failed or not; for `sync` and
    /// `write_sync` also before they take effect (the bytes of the latter are in flight then). So
    /// whoever looks at every crash image each time has looked at every power cut there can be.
    ///
    /// The observer may ask the disk for anything, images above all. It must not change it, or it
    /// would be told of that too, without end. An observer that owns a handle of the disk that it
    /// observes keeps that disk alive until it is taken off.
    pub fn set_observer(&self, observer: Option<Observer>) {
        self.state.lock().observer = observer;
    }

    fn observe(&self, operation: &Operation) {
        // Called without the lock, so that the observer may use the disk.
        let observer = self.state.lock().observer.clone();
        if let Some(observer) = observer {
            observer(self, operation);
        }
    }

    /// Does something to the state, then tells the observer.
    fn step<T>(&self, operation: &Operation, act: impl FnOnce(&mut State) -> T) -> T {
        let answer = act(&mut self.state.lock());
        self.observe(operation);
        answer
    }
}

impl State {
    fn begin(&mut self) {
        self.operations += 1;
    }

    /// Writes, and answers where.
    fn write(
        &mut self,
        operation: &'static str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(u64, usize), PlatformError> {
        if bytes.is_empty() {
            return Ok((0, 0));
        }
        let end = end_of(operation, offset, bytes.len())?;
        let misdirected = self.faults.write();
        let (place, len) = match misdirected {
            None => (offset, bytes.len()),
            Some(page) => {
                let place = page.saturating_mul(u64::from(PAGE_SIZE));
                let place = place.saturating_add(offset % u64::from(PAGE_SIZE));
                let room = self.medium.len().max(end).saturating_sub(place);
                (place, bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)))
            }
        };
        let pages = self.medium.cache();
        if len > 0 {
            check_capacity(pages, self.settings.capacity, operation, place, len)?;
        }
        if misdirected.is_some() {
            self.medium.grow(end);
        }
        self.medium.write(place, bytes.get(..len).unwrap_or_default());
        Ok((place, len))
    }
}

fn failed(operation: &'static str) -> PlatformError {
    PlatformError::new(PlatformErrorKind::Io, operation).detail("injected")
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk")
            .field("len", &state.medium.len())
            .field("pages", &state.medium.cache().allocated())
            .field("pages_in_flight", &state.medium.flight().count())
            .field("operations", &state.operations)
            .finish_non_exhaustive()
    }
}

impl Platform for SimDisk {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;
    type Mapping = NoMapping;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn len(&self) -> Result<u64, PlatformError> {
        Ok(self.state.lock().medium.len())
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.step(&Operation::Grow { len }, |state| {
            state.begin();
            end_of("grow", len, 0)?;
            state.medium.grow(len);
            Ok(())
        })
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.step(&Operation::Cut { len }, |state| {
            state.begin();
            state.medium.cut(len);
            Ok(())
        })
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        let mut state = self.state.lock();
        check_range(offset, buf.len(), state.medium.len())?;
        let place = match state.faults.read() {
            None => offset,
            Some(page) => page
                .saturating_mul(u64::from(PAGE_SIZE))
                .saturating_add(offset % u64::from(PAGE_SIZE)),
        };
        let room = state.medium.len().saturating_sub(place);
        let part = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let (there, missing) = buf.split_at_mut(part);
        state.medium.cache().read(place, there);
        missing.fill(0);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.step(&Operation::Write { offset, len: bytes.len() as u64 }, |state| {
            state.begin();
            state.write("write", offset, bytes).map(|_| ())
        })
    }

    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        let operation = Operation::WriteSync { offset, len: bytes.len() as u64 };
        let (place, len) = self.step(&operation, |state| {
            state.begin();
            state.write("write_sync", offset, bytes)
        })?;
        self.step(&operation, |state| match state.faults.sync() {
            None => {
                state.medium.sync_range(place, len);
                Ok(())
            }
            Some(SyncFault::Lies(persisted)) => {
                state.medium.pretend_sync_range(place, len, persisted);
                Ok(())
            }
            Some(SyncFault::Fails(persisted)) => {
                state.medium.fail_sync_range(place, len, persisted);
                Err(failed("write_sync").at(offset, bytes.len() as u64))
            }
        })
    }

    fn sync(&self) -> Result<(), PlatformError> {
        self.step(&Operation::Sync, State::begin);
        self.step(&Operation::Sync, |state| match state.faults.sync() {
            None => {
                state.medium.sync();
                Ok(())
            }
            Some(SyncFault::Lies(persisted)) => {
                state.medium.pretend_sync(persisted);
                Ok(())
            }
            Some(SyncFault::Fails(persisted)) => {
                state.medium.fail_sync(persisted);
                Err(failed("sync"))
            }
        })
    }

    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        self.step(&Operation::Punch { offset, len }, |state| {
            state.begin();
            let (from, to) = whole_pages(offset, len);
            Ok(state.medium.punch(from, to))
        })
    }

    fn map(&self, _len: u64) -> Result<Option<NoMapping>, PlatformError> {
        Ok(None)
    }

    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        let pages = self.state.lock().medium.cache().allocated();
        Ok(Some(pages.saturating_mul(u64::from(PAGE_SIZE))))
    }

    /// The next 128 bits of a sequence that the seed fixes.
    fn entropy(&self) -> Result<u128, PlatformError> {
        Ok(self.state.lock().settings.entropy.wide())
    }

    fn yield_now(&self) {
        locks::yield_now();
    }

    fn thread(&self) -> u64 {
        locks::thread()
    }
}
