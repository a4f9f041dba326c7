//! A platform that tells of every call: [`Trace`].

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use allod_core::PlatformError;
use allod_core::platform::{Capabilities, Platform};

use crate::locks::Mutex;
use crate::operation::Operation;
use crate::watch::{Answer, Watched, forward_watched};

/// A platform around another one, which tells a sink of each call after it was made.
///
/// ```
/// use allod_core::platform::Platform;
/// use allod_mem::{MemPlatform, Trace, TraceLog};
///
/// let log = TraceLog::new();
/// let platform = Trace::new(MemPlatform::new(), log.clone());
/// platform.write(4096, b"allod")?;
/// platform.sync()?;
/// platform.len()?;
/// let _ = platform.read(1 << 20, &mut [0; 8]);
/// assert_eq!(
///     log.text(),
///     "write 4096+5\n\
///      sync\n\
///      len = 4101\n\
///      read 1048576+8 failed: unexpected end\n",
/// );
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
pub struct Trace<P> {
    inner: P,
    sink: Arc<dyn TraceSink>,
}

/// One call that was made. Its text form ([`Display`](fmt::Display)) is a line without its end.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What was asked.
    pub operation: &'a Operation,
    /// How it went.
    pub answer: Answer<'a>,
    /// The number of the thread, as the platform has it.
    pub thread: u64,
}

/// Who is told of calls. Functions that take a [`Call`] are sinks.
pub trait TraceSink: Send + Sync + 'static {
    /// Takes note of a call. It must not call the platform that it is the sink of, which would tell
    /// it of that too, without end.
    fn record(&self, call: &Call<'_>);
}

/// A sink that keeps the calls as text. Clones are handles to the same text.
#[derive(Clone, Debug, Default)]
pub struct TraceLog {
    lines: Arc<Mutex<Vec<String>>>,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        match self.answer {
            Ok(Some(number)) => write!(f, " = {number}"),
            Ok(None) => Ok(()),
            Err(error) => write!(f, " failed: {}", error.kind),
        }
    }
}

impl<F: Fn(&Call<'_>) + Send + Sync + 'static> TraceSink for F {
    fn record(&self, call: &Call<'_>) {
        self(call);
    }
}

impl TraceSink for TraceLog {
    fn record(&self, call: &Call<'_>) {
        self.lines.lock().push(call.to_string());
    }
}

impl TraceLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All lines so far, without their ends.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// All lines so far as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.lock().iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Forgets all lines.
    pub fn clear(&self) {
        self.lines.lock().clear();
    }
}

impl<P: Platform> Trace<P> {
    /// Tells `sink` of each call of `inner` from now on.
    pub fn new(inner: P, sink: impl TraceSink) -> Self {
        Self { inner, sink: Arc::new(sink) }
    }

    /// The platform inside. Calls made on it directly are not told of.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The platform inside, for good.
    pub fn into_inner(self) -> P {
        self.inner
    }

    fn watched(&self) -> Watched<'_, P, impl Fn(&Operation, Answer<'_>)> {
        let tell = |operation: &Operation, answer: Answer<'_>| {
            self.sink.record(&Call { operation, answer, thread: self.inner.thread() });
        };
        Watched { inner: &self.inner, tell }
    }
}

impl<P: fmt::Debug> fmt::Debug for Trace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("inner", &self.inner).finish_non_exhaustive()
    }
}

forward_watched!(Trace);
