//! A platform that is overheard, and made to fail, at the moment of one call.

use std::sync::{Arc, Mutex};

use allod_core::platform::Capabilities;
use allod_core::{Platform, PlatformError, PlatformErrorKind};

/// Gets the name of a call and its first two numbers. Answers how the call is to fail, if it is.
type Callback = Box<dyn FnMut(&'static str, u64, u64) -> Option<PlatformErrorKind> + Send>;

/// Where the callback of a [`Hook`] is hung up.
#[derive(Clone, Default)]
pub(crate) struct Hanger(Arc<Mutex<Option<Callback>>>);

impl Hanger {
    pub(crate) fn hang(
        &self,
        callback: impl FnMut(&'static str, u64, u64) -> Option<PlatformErrorKind> + Send + 'static,
    ) {
        *self.0.lock().expect("a callback") = Some(Box::new(callback));
    }

    pub(crate) fn clear(&self) {
        *self.0.lock().expect("a callback") = None;
    }
}

/// A platform that is overheard. Calls made while the callback runs are not told to it.
pub(crate) struct Hook<P> {
    inner: P,
    hanger: Hanger,
}

impl<P> Hook<P> {
    pub(crate) fn new(inner: P) -> (Self, Hanger) {
        let hanger = Hanger::default();
        (Self { inner, hanger: hanger.clone() }, hanger)
    }

    fn tell(&self, call: &'static str, a: u64, b: u64) -> Result<(), PlatformError> {
        let Some(mut callback) = self.hanger.0.lock().expect("a callback").take() else {
            return Ok(());
        };
        let answer = callback(call, a, b);
        self.hanger.0.lock().expect("a callback").get_or_insert(callback);
        answer.map_or(Ok(()), |kind| Err(PlatformError::new(kind, call)))
    }
}

impl<P: Platform> Platform for Hook<P> {
    type RawMutex = P::RawMutex;
    type RawRwLock = P::RawRwLock;
    type Mapping = P::Mapping;

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn len(&self) -> Result<u64, PlatformError> {
        self.inner.len()
    }
    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        self.tell("grow", len, 0)?;
        self.inner.grow(len)
    }
    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        self.tell("cut", len, 0)?;
        self.inner.cut(len)
    }
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        self.tell("read", offset, buf.len() as u64)?;
        self.inner.read(offset, buf)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.tell("write", offset, bytes.len() as u64)?;
        self.inner.write(offset, bytes)
    }
    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.tell("write_sync", offset, bytes.len() as u64)?;
        self.inner.write_sync(offset, bytes)
    }
    fn sync(&self) -> Result<(), PlatformError> {
        self.tell("sync", 0, 0)?;
        self.inner.sync()
    }
    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        self.tell("punch", offset, len)?;
        self.inner.punch(offset, len)
    }
    fn map(&self, len: u64) -> Result<Option<P::Mapping>, PlatformError> {
        self.tell("map", len, 0)?;
        self.inner.map(len)
    }
    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        self.inner.allocated()
    }
    fn entropy(&self) -> Result<u128, PlatformError> {
        self.inner.entropy()
    }
    fn yield_now(&self) {
        self.inner.yield_now();
    }
    fn thread(&self) -> u64 {
        self.inner.thread()
    }
}
