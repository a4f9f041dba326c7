//! What a test runs on: a place that holds the bytes of one store, and ways to open, copy, harm and
//! look at it. The factory behind it is the only thing that knows of files.
//!
//! It is no platform: it makes platforms.

use std::collections::BTreeMap;

use allod_core::{Create, Error, Options, Platform, PlatformError, Region, Result, Store};

/// A place that holds the bytes of one store. Clones are handles to the same bytes.
pub trait Bench: Clone + Send + Sync + 'static {
    /// What the store under test is opened on.
    type Platform: Platform;

    /// Whether the platform gives mappings, so that readers borrow.
    const MAPS: bool;
    /// Whether a second writer is refused.
    const LOCKS: bool;
    /// Tests that try every bit try one of so many: 1 where opening costs next to nothing.
    const STRIDE: usize;

    /// A new place without bytes.
    fn fresh() -> Self;

    /// A new place without bytes, whose stores get ids that depend on the seed alone; `None` where
    /// the machine decides.
    fn seeded(seed: u64) -> Option<Self>;

    /// A new place that holds a copy of `bytes`.
    fn holding(bytes: &[u8]) -> Self {
        let bench = Self::fresh();
        let platform = bench.platform();
        platform.write(0, bytes).expect("writing to a new place");
        platform.cut(bytes.len() as u64).expect("cutting a new place");
        bench
    }

    /// The platform over these bytes, opened for writing.
    fn open(&self) -> std::result::Result<Self::Platform, PlatformError>;

    /// The platform over these bytes, opened so that it refuses every change; `None` where there is
    /// no such thing.
    fn open_read_only(&self) -> Option<Self::Platform>;

    /// All bytes as they are now, whoever has them open.
    fn bytes(&self) -> Vec<u8>;

    /// As [`open`](Self::open), where it must succeed.
    fn platform(&self) -> Self::Platform {
        self.open().expect("opening the platform")
    }

    /// An independent place with the same bytes: what a process that dies now leaves behind.
    #[must_use]
    fn copy(&self) -> Self {
        Self::holding(&self.bytes())
    }
}

/// The store of a test.
pub type On<B> = Store<<B as Bench>::Platform>;

/// What a store holds: names and bytes.
pub type Content = BTreeMap<String, Vec<u8>>;

/// Options with a small journal, so that places are small and checkpoints come often.
#[must_use]
pub fn small() -> Options {
    Options::new().journal_size(64 << 10)
}

/// A new store with small options.
#[must_use]
pub fn store<B: Bench>(bench: &B) -> On<B> {
    small().create(Create::Always).open(bench.platform()).expect("a new store")
}

/// The store that is there, with small options.
#[must_use]
pub fn reopen<B: Bench>(bench: &B) -> On<B> {
    small().create(Create::Never).open(bench.platform()).expect("reopening")
}

/// What a copy of the bytes opens as: what is left if the process dies now.
#[must_use]
pub fn after_death<B: Bench>(bench: &B) -> Content {
    content(&reopen(&bench.copy()))
}

/// A region with these bytes.
pub fn region<P: Platform>(store: &Store<P>, name: &str, bytes: &[u8]) -> Region<P> {
    let region = store.create_region(name).expect("creating");
    region.append(bytes).expect("appending");
    region
}

/// All that the store holds, read in two ways that must agree.
#[must_use]
pub fn content<P: Platform>(store: &Store<P>) -> Content {
    try_content(store).expect("reading")
}

/// As [`content`], where reading may fail.
///
/// # Errors
///
/// That of reading.
pub fn try_content<P: Platform>(store: &Store<P>) -> Result<Content> {
    let mut content = Content::new();
    for info in store.regions() {
        let region = store.region(&info.name).expect("a listed region");
        assert_eq!(region.id(), info.id, "id of {}", info.name);
        assert_eq!(region.len()?, info.len, "length of {}", info.name);
        let reader = region.reader()?;
        let all = reader.read_all()?;
        let mut pieces = Vec::new();
        for piece in reader.chunks(0, reader.len())? {
            pieces.extend_from_slice(&piece?);
        }
        assert!(*all == *pieces, "{} reads differently in pieces", info.name);
        content.insert(info.name, pieces);
    }
    assert_eq!(content.len(), store.len());
    disjoint(store);
    Ok(content)
}

/// No two regions share a place, and each has room for its bytes.
pub fn disjoint<P: Platform>(store: &Store<P>) {
    let mut regions = store.regions();
    regions.retain(|region| region.capacity > 0);
    regions.sort_by_key(|region| region.start);
    for region in &regions {
        assert!(region.start >= 2 * u64::from(store.page_size()), "{region:?} is on a slot");
    }
    for pair in regions.windows(2) {
        assert!(pair[0].start + pair[0].capacity <= pair[1].start, "{pair:?} overlap");
    }
}

/// `len` bytes that differ from page to page and from seed to seed.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Asserts that a call failed with an error of this pattern.
#[macro_export]
macro_rules! refused {
    ($call:expr, $pattern:pat $(if $guard:expr)? $(,)?) => {
        match $call {
            Err($pattern) $(if $guard)? => {}
            Err(error) => panic!("the wrong error: {error:?}"),
            Ok(_) => panic!("{} was not refused", stringify!($call)),
        }
    };
}

/// Whether the error says that the disk is full.
#[must_use]
pub fn is_full(error: &Error) -> bool {
    matches!(error, Error::Platform(e) if e.kind == allod_core::PlatformErrorKind::NoSpace)
}
