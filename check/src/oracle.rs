//! The oracle: what a store must show now, and what it may show after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use allod_core::Store;

use crate::effort::Depth;
use crate::rig::Rig;

/// A region as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: u64,
    pub(crate) bytes: Arc<Vec<u8>>,
}

/// One state of a whole store.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) regions: BTreeMap<u8, Known>,
    /// No region made before this state had a higher one.
    pub(crate) highest_id: u64,
}

/// A state that does not change any more.
pub(crate) type Shot = Arc<World>;

const NAMES: [&str; 8] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"];

pub(crate) fn name(region: u8) -> &'static str {
    NAMES[usize::from(region) % NAMES.len()]
}

/// What the store must show now, and may show later.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    /// What it shows.
    pub(crate) now: World,
    /// The last state of which it was said that it is durable.
    pub(crate) durable: Shot,
    /// States that were to be written since, and may survive a power cut.
    pub(crate) since: Vec<Shot>,
    /// The last state of which it was said that it survives the process.
    pub(crate) kernel: Shot,
    /// States since then of which nobody said that they were written, and nobody that they were not.
    pub(crate) loose: Vec<Shot>,
    /// The state that a flush writes now.
    pub(crate) in_flight: Option<Shot>,
    /// Whether something was acknowledged since the store was opened, so that what was recovered
    /// must be durable.
    pub(crate) confirmed: bool,
}

impl Oracle {
    /// A store that was just made.
    pub(crate) fn new() -> Self {
        let state = Arc::new(World::default());
        Self {
            now: World::clone(&state),
            durable: state.clone(),
            since: Vec::new(),
            kernel: state,
            loose: Vec::new(),
            in_flight: None,
            confirmed: true,
        }
    }

    /// The states that a power cut may leave.
    pub(crate) fn after_power_cut(&self) -> Vec<Shot> {
        let flight = self.in_flight.iter();
        let rest = flight.chain(self.loose.iter().rev()).chain(self.since.iter().rev());
        rest.chain(Some(&self.durable)).cloned().collect()
    }

    /// The states that the death of the process may leave.
    pub(crate) fn after_kill(&self) -> Vec<Shot> {
        let flight = self.in_flight.iter().chain(self.loose.iter().rev());
        flight.chain(Some(&self.kernel)).cloned().collect()
    }

    /// The store acknowledged something: what was recovered is durable.
    pub(crate) fn acknowledge(&mut self) {
        if !self.confirmed {
            self.confirmed = true;
            self.durable = self.kernel.clone();
            self.since.clear();
        }
    }

    /// The store said that `state` survives the process, and if `durable`, a power cut too.
    pub(crate) fn flushed(&mut self, state: Shot, durable: bool) {
        self.kernel = state.clone();
        if durable {
            self.confirmed = true;
            self.durable = state;
            self.since.clear();
        } else {
            self.since.append(&mut self.loose);
            self.since.push(state);
        }
        self.loose.clear();
    }

    /// Nobody knows whether `state` was written: it may survive from now on.
    pub(crate) fn may_be_written(&mut self, state: Shot) {
        if !self.loose.iter().any(|known| Arc::ptr_eq(known, &state)) {
            self.loose.push(state);
        }
    }

    /// The store was opened again and shows `state`. After a power cut (and not after a death of the
    /// process, whose bytes may still reach the disk) nothing later can ever show again. Until
    /// something is acknowledged, what was durable before may show again: the generation in which
    /// `state` was found may never have been proven.
    pub(crate) fn reopened(&mut self, state: Shot, power_cut: bool) {
        self.since.append(&mut self.loose);
        self.since.extend(self.in_flight.take());
        if power_cut {
            let at = self.since.iter().rposition(|since| since.regions == state.regions);
            self.since.truncate(at.map_or(0, |at| at + 1));
        }
        self.now = World::clone(&state);
        self.kernel = state;
        self.confirmed = false;
    }
}

thread_local! {
    /// The bytes of a region while they are compared, kept so that they are allocated once.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Compares what a store shows with a state.
pub(crate) fn differs(store: &Store<Rig>, world: &World, depth: Depth) -> Option<String> {
    let shown = store.regions();
    if shown.len() != world.regions.len() || store.len() != shown.len() {
        let names: Vec<_> = shown.iter().map(|info| info.name.as_str()).collect();
        return Some(format!("regions {names:?}, not {:?}", world.names()));
    }
    for (info, (region, known)) in shown.iter().zip(&world.regions) {
        if info.name != name(*region) {
            return Some(format!("a region {:?}, not {:?}", info.name, name(*region)));
        }
        if info.id != known.id {
            return Some(format!("region {:?} has id {}, not {}", info.name, info.id, known.id));
        }
        if info.len != known.bytes.len() as u64 {
            let (shown, len) = (info.len, known.bytes.len());
            return Some(format!("region {:?} has length {shown}, not {len}", info.name));
        }
    }
    if depth == Depth::Metadata {
        return None;
    }
    world.regions.iter().find_map(|(region, known)| {
        let what = bytes_differ(store, *region, &known.bytes)?;
        Some(format!("region {:?}: {what}", name(*region)))
    })
}

fn bytes_differ(store: &Store<Rig>, region: u8, expected: &[u8]) -> Option<String> {
    let Some(handle) = store.region(name(region)) else {
        return Some("is listed, and not found".into());
    };
    if expected.is_empty() {
        return None;
    }
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < expected.len() {
            buffer.resize(expected.len(), 0);
        }
        let found = buffer.get_mut(..expected.len()).unwrap_or_default();
        match handle.reader().and_then(|reader| reader.read_into(0, found)) {
            Ok(()) => difference(found, expected),
            Err(error) => Some(error.to_string()),
        }
    })
}

/// Where bytes differ first.
pub(crate) fn difference(found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    if found.len() != expected.len() {
        return Some(format!("{} bytes, not {}", found.len(), expected.len()));
    }
    let at = found.iter().zip(expected).position(|(a, b)| a != b)?;
    let end = found.iter().zip(expected).rposition(|(a, b)| a != b)? + 1;
    let window = |bytes: &[u8]| format!("{:02x?}", &bytes[at..bytes.len().min(at + 8)]);
    let zeros = if found[at..end].iter().all(|byte| *byte == 0) { " (all zeros)" } else { "" };
    Some(format!(
        "bytes {at}..{end} of {} differ{zeros}: {} not {}",
        found.len(),
        window(found),
        window(expected)
    ))
}

impl World {
    fn names(&self) -> Vec<&'static str> {
        self.regions.keys().map(|region| name(*region)).collect()
    }

    /// The state in a line.
    pub(crate) fn sketch(&self) -> String {
        let regions: Vec<String> = self
            .regions
            .iter()
            .map(|(region, known)| {
                format!("{}=id {} {} bytes", name(*region), known.id, known.bytes.len())
            })
            .collect();
        format!("{{{}}}", regions.join(", "))
    }
}
