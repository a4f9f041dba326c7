//! A platform whose calls fail: [`Fault`].
//!
//! It refuses calls, or does a part of them and refuses then. What it does not know is what a
//! medium keeps and loses: for a sync that fails and leaves the cache looking clean, see
//! [`DiskFault`](crate::DiskFault).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use allod_core::platform::{Capabilities, Platform};
use allod_core::{PlatformError, PlatformErrorKind};

use crate::locks::Mutex;
use crate::operation::{Operation, OperationSet};
use crate::prng::Prng;

/// A platform around another one, whose calls fail by rules given through a [`FaultHandle`].
///
/// ```
/// use allod_core::PlatformErrorKind;
/// use allod_core::platform::Platform;
/// use allod_mem::{Fault, FaultRule, MemPlatform, Part};
///
/// let platform = Fault::new(MemPlatform::new(), 1);
/// let faults = platform.handle();
/// faults.add(FaultRule::full_disk(2).part(Part::Bytes(3)));
///
/// platform.write(0, b"allod")?;
/// let error = platform.write(5, b"allod").unwrap_err();
/// assert_eq!(error.kind, PlatformErrorKind::NoSpace);
/// assert_eq!(platform.len()?, 8);
/// faults.clear();
/// platform.write(5, b"allod")?;
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
pub struct Fault<P> {
    inner: P,
    handle: FaultHandle,
}

/// The way to the rules of a [`Fault`], while a store owns the platform. Clones lead to the same
/// rules.
#[derive(Clone)]
pub struct FaultHandle {
    plan: Arc<Mutex<Plan>>,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// The operations concerned.
    pub operations: OperationSet,
    /// Which of their calls.
    pub when: When,
    /// What they answer.
    pub error: PlatformErrorKind,
    /// What they do before.
    pub part: Part,
}

/// Which of the calls that a rule concerns fail. Calls are counted from the moment the rule is
/// added, while rules are switched on: 1, and 0 too, is the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// That one.
    Nth(u64),
    /// That one and all later ones.
    From(u64),
    /// Each with this many chances in a million, drawn from the seed of the [`Fault`].
    PerMillion(u32),
}

/// What a call that fails does before it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing.
    Nothing,
    /// A read or a write: its first so many bytes (`write_sync` without the sync). Any other call:
    /// nothing.
    Bytes(u64),
    /// Everything, and fails nevertheless.
    Everything,
}

struct Plan {
    rules: Vec<Counted>,
    enabled: bool,
    fired: u64,
    prng: Prng,
}

struct Counted {
    rule: FaultRule,
    seen: u64,
}

impl FaultRule {
    /// The `nth` call of these operations fails once with this error and does nothing.
    pub fn nth(operations: impl Into<OperationSet>, nth: u64, error: PlatformErrorKind) -> Self {
        let when = When::Nth(nth);
        Self { operations: operations.into(), when, error, part: Part::Nothing }
    }

    /// The disk is full from the `nth` call on that may take space.
    #[must_use]
    pub fn full_disk(nth: u64) -> Self {
        Self {
            operations: OperationSet::SPACE,
            when: When::From(nth),
            error: PlatformErrorKind::NoSpace,
            part: Part::Nothing,
        }
    }

    /// Each call of these operations fails with so many chances in a million.
    pub fn by_chance(
        operations: impl Into<OperationSet>,
        per_million: u32,
        error: PlatformErrorKind,
    ) -> Self {
        let when = When::PerMillion(per_million);
        Self { operations: operations.into(), when, error, part: Part::Nothing }
    }

    /// The same, doing a part of the call first.
    #[must_use]
    pub fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }
}

impl<P: Platform> Fault<P> {
    /// A platform without rules: nothing fails that does not fail in `inner`. The seed is that of
    /// [`When::PerMillion`].
    pub fn new(inner: P, seed: u64) -> Self {
        let plan = Plan { rules: Vec::new(), enabled: true, fired: 0, prng: Prng::new(seed) };
        Self { inner, handle: FaultHandle { plan: Arc::new(Mutex::new(plan)) } }
    }

    /// A handle to the rules.
    #[must_use]
    pub fn handle(&self) -> FaultHandle {
        self.handle.clone()
    }

    /// The platform inside. Calls made on it directly do not fail and do not count.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The platform inside, for good.
    pub fn into_inner(self) -> P {
        self.inner
    }

    /// Does a call that cannot be done in part.
    fn call<T>(
        &self,
        operation: Operation,
        act: impl FnOnce() -> Result<T, PlatformError>,
    ) -> Result<T, PlatformError> {
        match self.handle.draw(&operation) {
            None => act(),
            Some((Part::Everything, error)) => act().and(Err(error)),
            Some((_, error)) => Err(error),
        }
    }
}

impl FaultHandle {
    /// Adds a rule. Where several meet one call, the oldest decides; all count it.
    pub fn add(&self, rule: FaultRule) {
        self.plan.lock().rules.push(Counted { rule, seen: 0 });
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.plan.lock().rules.clear();
    }

    /// Switches the rules on (as they are at first) or off. While off, calls are not counted.
    pub fn set_enabled(&self, enabled: bool) {
        self.plan.lock().enabled = enabled;
    }

    /// How many calls failed by a rule so far.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.plan.lock().fired
    }

    fn draw(&self, operation: &Operation) -> Option<(Part, PlatformError)> {
        let plan = &mut *self.plan.lock();
        if !plan.enabled {
            return None;
        }
        let mut decided = None;
        for Counted { rule, seen } in &mut plan.rules {
            if !rule.operations.contains(operation.kind()) {
                continue;
            }
            *seen = seen.saturating_add(1);
            let fails = match rule.when {
                When::Nth(nth) => *seen == nth.max(1),
                When::From(nth) => *seen >= nth,
                When::PerMillion(chances) => plan.prng.below(1_000_000) < u64::from(chances),
            };
            if fails && decided.is_none() {
                decided = Some(*rule);
            }
        }
        let rule = decided?;
        plan.fired += 1;
        let mut error = PlatformError::new(rule.error, operation.kind().name()).detail("injected");
        error.range = operation.range();
        Some((rule.part, error))
    }
}

impl<P: fmt::Debug> fmt::Debug for Fault<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("inner", &self.inner).field("handle", &self.handle).finish()
    }
}

impl fmt::Debug for FaultHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan.lock();
        f.debug_struct("FaultHandle")
            .field("rules", &plan.rules.len())
            .field("enabled", &plan.enabled)
            .field("fired", &plan.fired)
            .finish()
    }
}

/// How many of `len` bytes a part of that many is.
fn at_most(bytes: u64, len: usize) -> usize {
    len.min(usize::try_from(bytes).unwrap_or(usize::MAX))
}

impl<P: Platform> Platform for Fault<P> {
    type RawMutex = P::RawMutex;
    type RawRwLock = P::RawRwLock;
    type Mapping = P::Mapping;

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn len(&self) -> Result<u64, PlatformError> {
        self.call(Operation::Len, || self.inner.len())
    }

    fn is_empty(&self) -> Result<bool, PlatformError> {
        self.call(Operation::Len, || self.inner.is_empty())
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.call(Operation::Grow { len }, || self.inner.grow(len))
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.call(Operation::Cut { len }, || self.inner.cut(len))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        match self.handle.draw(&Operation::Read { offset, len: buf.len() as u64 }) {
            None => self.inner.read(offset, buf),
            Some((part, error)) => {
                let len = match part {
                    Part::Nothing => 0,
                    Part::Bytes(bytes) => at_most(bytes, buf.len()),
                    Part::Everything => buf.len(),
                };
                if let (Some(some), false) = (buf.get_mut(..len), len == 0) {
                    self.inner.read(offset, some)?;
                }
                Err(error)
            }
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        match self.handle.draw(&Operation::Write { offset, len: bytes.len() as u64 }) {
            None => self.inner.write(offset, bytes),
            Some((part, error)) => {
                let len = match part {
                    Part::Nothing => 0,
                    Part::Bytes(some) => at_most(some, bytes.len()),
                    Part::Everything => bytes.len(),
                };
                if let (Some(some), false) = (bytes.get(..len), len == 0) {
                    self.inner.write(offset, some)?;
                }
                Err(error)
            }
        }
    }

    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        match self.handle.draw(&Operation::WriteSync { offset, len: bytes.len() as u64 }) {
            None => self.inner.write_sync(offset, bytes),
            Some((Part::Nothing, error)) => Err(error),
            Some((Part::Bytes(some), error)) => {
                let len = at_most(some, bytes.len());
                if let (Some(some), false) = (bytes.get(..len), len == 0) {
                    self.inner.write(offset, some)?;
                }
                Err(error)
            }
            Some((Part::Everything, error)) => self.inner.write_sync(offset, bytes).and(Err(error)),
        }
    }

    fn sync(&self) -> Result<(), PlatformError> {
        self.call(Operation::Sync, || self.inner.sync())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        self.call(Operation::Punch { offset, len }, || self.inner.punch(offset, len))
    }

    fn map(&self, len: u64) -> Result<Option<P::Mapping>, PlatformError> {
        self.call(Operation::Map { len }, || self.inner.map(len))
    }

    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        self.call(Operation::Allocated, || self.inner.allocated())
    }

    fn entropy(&self) -> Result<u128, PlatformError> {
        self.call(Operation::Entropy, || self.inner.entropy())
    }

    fn yield_now(&self) {
        self.inner.yield_now();
    }

    fn thread(&self) -> u64 {
        self.inner.thread()
    }
}
