//! A platform that counts: [`Stats`].

use alloc::sync::Arc;
use core::fmt;

use allod_core::PlatformError;
use allod_core::platform::{Capabilities, Platform};

use crate::locks::Mutex;
use crate::operation::{Operation, OperationKind};
use crate::watch::{Answer, Watched, forward_watched};

/// A platform around another one, which counts calls, failures and bytes of each operation.
///
/// ```
/// use allod_core::platform::Platform;
/// use allod_mem::{MemPlatform, OperationKind, Stats};
///
/// let platform = Stats::new(MemPlatform::new());
/// let stats = platform.handle();
/// platform.write(0, &[1; 100])?;
/// platform.write_sync(100, &[2; 50])?;
/// platform.sync()?;
/// let counts = stats.counts();
/// assert_eq!(counts.of(OperationKind::Write).bytes, 100);
/// assert_eq!(counts.bytes_written(), 150);
/// assert_eq!(counts.syncs(), 2);
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
pub struct Stats<P> {
    inner: P,
    handle: StatsHandle,
}

/// The way to the counts of a [`Stats`], while a store owns the platform. Clones lead to the same
/// counts.
#[derive(Clone, Debug, Default)]
pub struct StatsHandle {
    counts: Arc<Mutex<Counts>>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_kind: [Count; OperationKind::ALL.len()],
}

/// The count of one kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls made, failed ones too.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Bytes read, written or punched by the calls that did not fail; 0 for other operations.
    pub bytes: u64,
}

impl Counts {
    /// The count of one kind.
    #[must_use]
    pub fn of(&self, kind: OperationKind) -> Count {
        self.by_kind.get(kind as usize).copied().unwrap_or_default()
    }

    /// Bytes read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.of(OperationKind::Read).bytes
    }

    /// Bytes written, with those of `write_sync`.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        let sync = self.of(OperationKind::WriteSync).bytes;
        self.of(OperationKind::Write).bytes.saturating_add(sync)
    }

    /// Calls that make something durable: `sync` and `write_sync`, failed ones too.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        let sync = self.of(OperationKind::WriteSync).calls;
        self.of(OperationKind::Sync).calls.saturating_add(sync)
    }

    /// What was counted since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let by_kind = core::array::from_fn(|kind| {
            let (now, then) = (self.by_kind[kind], earlier.by_kind[kind]);
            Count {
                calls: now.calls.saturating_sub(then.calls),
                failures: now.failures.saturating_sub(then.failures),
                bytes: now.bytes.saturating_sub(then.bytes),
            }
        });
        Self { by_kind }
    }
}

/// One line for each kind that was called.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in OperationKind::ALL {
            let Count { calls, failures, bytes } = self.of(kind);
            if calls > 0 {
                writeln!(
                    f,
                    "{:<10} {calls:>10} calls {bytes:>14} bytes {failures:>6} failed",
                    kind.name()
                )?;
            }
        }
        Ok(())
    }
}

impl StatsHandle {
    /// The counts as they are now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    /// Starts all counts from 0 and answers what they were.
    pub fn reset(&self) -> Counts {
        core::mem::take(&mut self.counts.lock())
    }

    fn add(&self, operation: &Operation, answer: Answer<'_>) {
        let mut counts = self.counts.lock();
        let Some(count) = counts.by_kind.get_mut(operation.kind() as usize) else { return };
        count.calls = count.calls.saturating_add(1);
        match answer {
            Err(_) => count.failures = count.failures.saturating_add(1),
            // A punch that gave nothing back.
            Ok(Some(0)) => {}
            Ok(_) => {
                let len = operation.range().map_or(0, |(_, len)| len);
                count.bytes = count.bytes.saturating_add(len);
            }
        }
    }
}

impl<P: Platform> Stats<P> {
    /// Counts the calls of `inner` from now on.
    pub fn new(inner: P) -> Self {
        Self { inner, handle: StatsHandle::default() }
    }

    /// A handle to the counts.
    #[must_use]
    pub fn handle(&self) -> StatsHandle {
        self.handle.clone()
    }

    /// The platform inside. Calls made on it directly are not counted.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The platform inside, for good.
    pub fn into_inner(self) -> P {
        self.inner
    }

    fn watched(&self) -> Watched<'_, P, impl Fn(&Operation, Answer<'_>)> {
        let tell = |operation: &Operation, answer: Answer<'_>| self.handle.add(operation, answer);
        Watched { inner: &self.inner, tell }
    }
}

impl<P: fmt::Debug> fmt::Debug for Stats<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("inner", &self.inner)
            .field("counts", &self.handle.counts())
            .finish()
    }
}

forward_watched!(Stats);
