//! The driver: does the operations of a history to a store, and the same to the oracle.

use std::ops::ControlFlow;
use std::sync::Arc;

use allod_core::platform::Platform;
use allod_core::{Error, PlatformErrorKind, Region, Store};
use allod_mem::DiskFault;

use crate::effort::Depth;
use crate::images;
use crate::life::{Death, Go, Life, Pinned, Saved, Stop};
use crate::oracle::{self, Known, World};
use crate::prng::bytes;
use crate::rig::Rig;
use crate::step::{Op, Step};

impl Life {
    pub(crate) fn store(&self) -> Go<Store<Rig>> {
        self.cell().store.clone().ok_or(Stop)
    }

    /// What an error of the store means. `Ok` if there was reason for it.
    pub(crate) fn refused(&self, error: &Error) -> Go {
        let mut cell = self.cell();
        match error {
            Error::Poisoned { .. } if cell.faulty => {
                cell.coverage.poisonings += u64::from(!cell.poisoned);
                cell.poisoned = true;
                Ok(())
            }
            Error::Platform(error) if error.kind == PlatformErrorKind::NoSpace && cell.full => {
                cell.coverage.full_disks += 1;
                Ok(())
            }
            _ => {
                drop(cell);
                Err(self.violate(format!("an error without a reason: {error}")))
            }
        }
    }

    pub(crate) fn still_well(&self) -> Go {
        if self.cell().poisoned {
            return Err(self.violate("a poisoned store goes on".into()));
        }
        Ok(())
    }

    /// Does something that changes the store, and the same to the oracle.
    fn change<T>(
        &self,
        act: impl FnOnce(&Store<Rig>) -> allod_core::Result<T>,
        apply: impl FnOnce(&mut World, T) -> Result<(), String>,
    ) -> Go {
        let store = self.store()?;
        match act(&store) {
            Ok(answer) => {
                self.still_well()?;
                let mut cell = self.cell();
                cell.coverage.confirmations += u64::from(!cell.oracle.confirmed);
                cell.oracle.acknowledge();
                let applied = apply(&mut cell.oracle.now, answer);
                drop(cell);
                applied.map_err(|what| self.violate(what))
            }
            Err(error) => self.refused(&error),
        }
    }

    /// The same to the bytes of one region. `make` says that the region is made if there is none.
    fn change_bytes(
        &self,
        region: u8,
        make: bool,
        act: impl FnOnce(&Region<Rig>, &[u8]) -> allod_core::Result<()>,
        apply: impl FnOnce(&mut Vec<u8>),
    ) -> Go {
        let there = self.cell().oracle.now.regions.contains_key(&region);
        if !there {
            if !make {
                return Ok(());
            }
            self.create(region)?;
        }
        let Some(known) = self.cell().oracle.now.regions.get(&region).cloned() else {
            return Ok(()); // It could not be made.
        };
        let handle = self.store()?.region(oracle::name(region));
        let Some(handle) = handle else {
            return Err(self.violate(format!("region {:?} is gone", oracle::name(region))));
        };
        self.change(
            |_| act(&handle, &known.bytes),
            |world, ()| {
                if let Some(known) = world.regions.get_mut(&region) {
                    apply(Arc::make_mut(&mut known.bytes));
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    fn create(&self, region: u8) -> Go {
        if self.cell().oracle.now.regions.contains_key(&region) {
            return Ok(());
        }
        self.change(
            |store| Ok(store.create_region(oracle::name(region))?.id()),
            |world, id| {
                if id <= world.highest_id {
                    return Err(format!("id {id} was used before"));
                }
                world.highest_id = id;
                world.regions.insert(region, Known { id, bytes: Arc::default() });
                Ok(())
            },
        )
    }

    pub(crate) fn step(self: &Arc<Self>, step: &Step) -> Go {
        let seed = u64::from(step.salt);
        let data = |len: u32| bytes(seed, len as usize);
        match step.op {
            Op::Create(region) => self.create(region),
            Op::Append(region, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    true,
                    |handle, _| handle.append(&data).map(|_| ()),
                    |bytes| bytes.extend_from_slice(&data),
                )
            }
            Op::Write(region, at, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    false,
                    |handle, old| handle.write_at(offset(at, old) as u64, &data),
                    |bytes| {
                        let at = offset(at, bytes);
                        let over = data.len().min(bytes.len() - at);
                        bytes[at..at + over].copy_from_slice(&data[..over]);
                        bytes.extend_from_slice(&data[over..]);
                    },
                )
            }
            Op::Truncate(region, len) => self.change_bytes(
                region,
                false,
                |handle, old| handle.truncate(offset(len, old) as u64),
                |bytes| bytes.truncate(offset(len, bytes)),
            ),
            Op::TruncateWrite(region, at, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    false,
                    |handle, old| handle.truncate_write(offset(at, old) as u64, &data),
                    |bytes| {
                        bytes.truncate(offset(at, bytes));
                        bytes.extend_from_slice(&data);
                    },
                )
            }
            Op::Replace(region, len) => {
                let data = data(len);
                self.change_bytes(
                    region,
                    true,
                    |handle, _| handle.replace(&data),
                    |bytes| bytes.clone_from(&data),
                )
            }
            Op::Reserve(region, len) => {
                self.change_bytes(region, false, |handle, _| handle.reserve(len.into()), |_| ())
            }
            Op::Rename(from, to) => {
                let regions = &self.cell().oracle.now.regions.clone();
                if !regions.contains_key(&from) || regions.contains_key(&to) {
                    return Ok(());
                }
                self.change(
                    |store| store.rename_region(oracle::name(from), oracle::name(to)),
                    |world, ()| {
                        if let Some(known) = world.regions.remove(&from) {
                            world.regions.insert(to, known);
                        }
                        Ok(())
                    },
                )
            }
            Op::Remove(region) => {
                if !self.cell().oracle.now.regions.contains_key(&region) {
                    return Ok(());
                }
                self.change(
                    |store| store.remove_region(oracle::name(region)),
                    |world, ()| {
                        world.regions.remove(&region);
                        Ok(())
                    },
                )
            }
            Op::Pin(region) => self.pin(region),
            Op::Unpin(which) => {
                let mut cell = self.cell();
                if !cell.readers.is_empty() {
                    let at = usize::from(which) % cell.readers.len();
                    let dropped = cell.readers.swap_remove(at);
                    drop(cell);
                    drop(dropped);
                }
                Ok(())
            }
            Op::Flush(durability) => self.flush(Some(durability), |s| s.flush_with(durability)),
            Op::Checkpoint => self.flush(None, Store::checkpoint),
            Op::Compact(budget) => {
                let progress = self.compact(true, |store| {
                    store.compact_with(budget.into(), |_| ControlFlow::Continue(()))
                })?;
                if let Some(progress) = progress {
                    self.cell().coverage.count(&progress);
                }
                Ok(())
            }
            Op::CompactStep(budget) => self.compact_step(budget),
            Op::Look => self.look(),
            Op::Reopen => {
                let mut cell = self.cell();
                let saved =
                    Saved { disk: cell.disk.kill(), oracle: cell.oracle.clone(), killed: true };
                cell.coverage.reopenings += 1;
                cell.saved = Some(saved);
                Ok(())
            }
            Op::PowerCut(image) => {
                let mut cell = self.cell();
                let Some(disk) = images::make(&cell.disk, image) else { return Ok(()) };
                cell.saved = Some(Saved { disk, oracle: cell.oracle.clone(), killed: false });
                Ok(())
            }
            Op::CutIn(calls, image) => {
                self.cell().armed = Some((calls.max(1), Death::Cut(image)));
                Ok(())
            }
            Op::KillIn(calls) => {
                self.cell().armed = Some((calls.max(1), Death::Kill));
                Ok(())
            }
            Op::FailSync(nth, kept) => {
                let mut cell = self.cell();
                cell.disk.inject(DiskFault::FailSync { nth: nth.into(), persisted: kept.into() });
                cell.faulty = true;
                Ok(())
            }
            Op::Full(pages) => {
                let mut cell = self.cell();
                let taken = cell.disk.allocated().ok().flatten().unwrap_or(0);
                cell.disk.set_capacity(Some(taken + u64::from(pages) * 4096));
                cell.full = true;
                Ok(())
            }
            Op::Lift => {
                let mut cell = self.cell();
                cell.disk.set_capacity(None);
                cell.full = false;
                Ok(())
            }
            Op::Hold(_) | Op::During(..) => Ok(()),
        }
    }

    fn pin(&self, region: u8) -> Go {
        let Some(known) = self.cell().oracle.now.regions.get(&region).cloned() else {
            return Ok(());
        };
        let Some(handle) = self.store()?.region(oracle::name(region)) else {
            return Err(self.violate(format!("region {:?} is gone", oracle::name(region))));
        };
        match handle.reader() {
            Ok(reader) => {
                let dropped = {
                    let mut cell = self.cell();
                    cell.readers.push(Pinned { reader, bytes: known.bytes });
                    (cell.readers.len() > 6).then(|| cell.readers.remove(0))
                };
                drop(dropped);
                Ok(())
            }
            Err(error) => Err(self.violate(format!("a reader: {error}"))),
        }
    }

    pub(crate) fn look_at_readers(&self) -> Go {
        let readers = core::mem::take(&mut self.cell().readers);
        for (number, Pinned { reader, bytes }) in readers.iter().enumerate() {
            let what = match reader.read_all() {
                Ok(found) => oracle::difference(&found, bytes),
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = what {
                return Err(self.violate(format!("reader {number}: {what}")));
            }
        }
        let mut cell = self.cell();
        cell.coverage.reader_looks += readers.len() as u64;
        cell.readers = readers;
        Ok(())
    }

    fn look(&self) -> Go {
        let store = self.store()?;
        let now = self.cell().oracle.now.clone();
        if let Some(what) = oracle::differs(&store, &now, Depth::Bytes) {
            return Err(self.violate(format!("without a crash: {what}")));
        }
        let skip = {
            let cell = self.cell();
            // What a poisoned store believes is not what its disk says, and inside a flush verify
            // would wait for its end.
            cell.poisoned || cell.oracle.in_flight.is_some()
        };
        match if skip { Ok(Default::default()) } else { store.verify() } {
            Ok(report) if report.is_clean() => {}
            Ok(report) => return Err(self.violate(format!("verify: {:?}", report.findings))),
            Err(error) => return Err(self.violate(format!("verify: {error}"))),
        }
        Ok(())
    }
}

/// Whether an operation can happen inside another.
pub(crate) fn simple(op: &Op) -> bool {
    matches!(
        op,
        Op::Create(_)
            | Op::Append(..)
            | Op::Write(..)
            | Op::Truncate(..)
            | Op::TruncateWrite(..)
            | Op::Replace(..)
            | Op::Rename(..)
            | Op::Remove(_)
            | Op::Reserve(..)
            | Op::Pin(_)
            | Op::Unpin(_)
            | Op::Look
    )
}

/// An offset that the bytes have.
fn offset(at: u32, bytes: &[u8]) -> usize {
    at as usize % (bytes.len() + 1)
}
