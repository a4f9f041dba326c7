//! The judgement of one crash image: a store is opened on it, and must show a state that the oracle
//! allows.

use allod_core::{Create, Error, Options, Store};
use allod_mem::SimDisk;

use crate::effort::Depth;
use crate::history::Setting;
use crate::oracle::{self, Shot};
use crate::panics::caught;
use crate::rig::Rig;

/// What is asked of a crash image.
pub(crate) struct Judge<'a> {
    pub(crate) setting: &'a Setting,
    /// The states that it may show.
    pub(crate) allowed: &'a [Shot],
    /// The store was being made: there may be none.
    pub(crate) making: bool,
    pub(crate) depth: Depth,
    /// Opens twice, verifies, and counts the space.
    pub(crate) thorough: bool,
}

impl Judge<'_> {
    /// Opens a store on what a crash left, and answers which of the allowed states it shows. `None`
    /// if there may be no store, and is none.
    pub(crate) fn judge(&self, disk: &SimDisk) -> Result<Option<Shot>, String> {
        let before = disk.operations();
        let state = caught(|| self.recover(disk)).unwrap_or_else(Err)?;
        if disk.operations() != before {
            return Err("recovery writes".into());
        }
        Ok(state)
    }

    fn recover(&self, disk: &SimDisk) -> Result<Option<Shot>, String> {
        let options = self.setting.options().create(Create::Never);
        let Some(store) = self.open(disk, &options)? else { return Ok(None) };
        let state = self.recognize(&store)?;
        if self.thorough {
            divides(&store)?;
            let again = self.open(disk, &options)?.ok_or("the store is gone when opened again")?;
            if let Some(what) = oracle::differs(&again, &state, Depth::Bytes) {
                return Err(format!("opened again: {what}"));
            }
            match again.verify() {
                Ok(report) if report.is_clean() => {}
                Ok(report) => return Err(format!("verify: {:?}", report.findings)),
                Err(error) => return Err(format!("verify: {error}")),
            }
        }
        Ok(Some(state))
    }

    fn open(&self, disk: &SimDisk, options: &Options) -> Result<Option<Store<Rig>>, String> {
        match options.open(Rig::new(disk.clone(), self.setting.lie)) {
            Ok(store) => Ok(Some(store)),
            Err(Error::NoStore | Error::Unfinished) if self.making => Ok(None),
            Err(error) => Err(format!("recovery: {error}")),
        }
    }

    fn recognize(&self, store: &Store<Rig>) -> Result<Shot, String> {
        let mut wrong = Vec::new();
        for state in self.allowed {
            match oracle::differs(store, state, self.depth) {
                None => return Ok(cautious(state, self.allowed)),
                Some(what) => wrong.push(format!("not {}: {what}", state.sketch())),
            }
        }
        wrong.dedup();
        Err(format!("recovered a state that never was; {}", wrong.join("; ")))
    }
}

/// Checks that regions, holes and metadata of a store that was just opened divide the file among
/// them: no two share a byte, and none is without an owner.
fn divides(store: &Store<Rig>) -> Result<(), String> {
    let mut places: Vec<_> = store.regions().into_iter().filter(|r| r.capacity > 0).collect();
    places.sort_unstable_by_key(|info| info.start);
    for pair in places.windows(2) {
        if let [a, b] = pair {
            if a.start + a.capacity > b.start {
                return Err(format!("{a:?} overlaps {b:?}"));
            }
        }
    }
    if let Some(long) = places.iter().find(|info| info.len > info.capacity) {
        return Err(format!("{long:?} is longer than its place"));
    }
    let usage = store.disk_usage().map_err(|error| format!("disk usage: {error}"))?;
    let owned: u64 = places.iter().map(|info| info.capacity).sum();
    let end = places.iter().map(|info| info.start + info.capacity).max().unwrap_or(0);
    let all = owned + usage.metadata + usage.holes + usage.retired;
    // The file may end before the last region does, if a batch holds all of its bytes.
    if all != usage.file_len.max(end) || usage.live + usage.reserved != owned {
        return Err(format!("regions have {owned} bytes of the file up to {end}, but {usage:?}"));
    }
    Ok(())
}

/// The state, or one of those that look like it, whichever promises least about ids.
fn cautious(state: &Shot, allowed: &[Shot]) -> Shot {
    let alike = allowed.iter().filter(|other| other.regions == state.regions);
    alike.min_by_key(|other| other.highest_id).unwrap_or(state).clone()
}
