//! What the platforms that only look on have in common: every call goes to the platform inside
//! unchanged, and somebody is told how it went.

use allod_core::PlatformError;
use allod_core::platform::{Mapping, Platform};

use crate::operation::Operation;

/// How a call went: the number that it answered, where it answers one, or its error. `len` and
/// `allocated` answer theirs, `punch` 1 or 0, `map` the length of the view; `None` stands for a
/// call that answers nothing, or that it cannot.
pub type Answer<'a> = Result<Option<u64>, &'a PlatformError>;

/// Forwards calls to a platform, and tells of them.
pub(crate) struct Watched<'a, P, F> {
    pub(crate) inner: &'a P,
    pub(crate) tell: F,
}

impl<P: Platform, F: Fn(&Operation, Answer<'_>)> Watched<'_, P, F> {
    fn done<T>(
        &self,
        operation: Operation,
        result: Result<T, PlatformError>,
        number: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T, PlatformError> {
        (self.tell)(&operation, result.as_ref().map(number));
        result
    }

    pub(crate) fn len(&self) -> Result<u64, PlatformError> {
        self.done(Operation::Len, self.inner.len(), |&len| Some(len))
    }

    pub(crate) fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.done(Operation::Grow { len }, self.inner.grow(len), |()| None)
    }

    pub(crate) fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.done(Operation::Cut { len }, self.inner.cut(len), |()| None)
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        let operation = Operation::Read { offset, len: buf.len() as u64 };
        self.done(operation, self.inner.read(offset, buf), |()| None)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        let operation = Operation::Write { offset, len: bytes.len() as u64 };
        self.done(operation, self.inner.write(offset, bytes), |()| None)
    }

    pub(crate) fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        let operation = Operation::WriteSync { offset, len: bytes.len() as u64 };
        self.done(operation, self.inner.write_sync(offset, bytes), |()| None)
    }

    pub(crate) fn sync(&self) -> Result<(), PlatformError> {
        self.done(Operation::Sync, self.inner.sync(), |()| None)
    }

    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        let operation = Operation::Punch { offset, len };
        self.done(operation, self.inner.punch(offset, len), |&gave| Some(u64::from(gave)))
    }

    pub(crate) fn map(&self, len: u64) -> Result<Option<P::Mapping>, PlatformError> {
        let view = |view: &Option<P::Mapping>| view.as_ref().map(|view| view.len() as u64);
        self.done(Operation::Map { len }, self.inner.map(len), view)
    }

    pub(crate) fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        self.done(Operation::Allocated, self.inner.allocated(), |&bytes| bytes)
    }

    pub(crate) fn entropy(&self) -> Result<u128, PlatformError> {
        self.done(Operation::Entropy, self.inner.entropy(), |_| None)
    }
}

/// Implements [`Platform`] for a wrapper `W<P>` with a field `inner` and a method `watched`.
macro_rules! forward_watched {
    ($wrapper:ident) => {
        impl<P: Platform> Platform for $wrapper<P> {
            type RawMutex = P::RawMutex;
            type RawRwLock = P::RawRwLock;
            type Mapping = P::Mapping;

            fn capabilities(&self) -> Capabilities {
                self.inner.capabilities()
            }

            fn len(&self) -> Result<u64, PlatformError> {
                self.watched().len()
            }

            fn grow(&self, len: u64) -> Result<(), PlatformError> {
                self.watched().grow(len)
            }

            fn cut(&self, len: u64) -> Result<(), PlatformError> {
                self.watched().cut(len)
            }

            fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
                self.watched().read(offset, buf)
            }

            fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
                self.watched().write(offset, bytes)
            }

            fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
                self.watched().write_sync(offset, bytes)
            }

            fn sync(&self) -> Result<(), PlatformError> {
                self.watched().sync()
            }

            fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
                self.watched().punch(offset, len)
            }

            fn map(&self, len: u64) -> Result<Option<P::Mapping>, PlatformError> {
                self.watched().map(len)
            }

            fn allocated(&self) -> Result<Option<u64>, PlatformError> {
                self.watched().allocated()
            }

            fn entropy(&self) -> Result<u128, PlatformError> {
                self.watched().entropy()
            }

            fn yield_now(&self) {
                self.inner.yield_now();
            }

            fn thread(&self) -> u64 {
                self.inner.thread()
            }
        }
    };
}
pub(crate) use forward_watched;
