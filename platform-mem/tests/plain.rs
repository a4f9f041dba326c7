//! Every platform of this crate without faults is a plain vector of bytes.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use allod_core::PlatformErrorKind;
use allod_core::platform::{Mapping, Platform};
use allod_mem::{Fault, MappedMem, MemPlatform, SimDisk, Stats, Trace, TraceLog};
use proptest::prelude::*;

const MAX: usize = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, byte: u8, sync: bool },
    Grow(usize),
    Cut(usize),
    Punch { page: usize, pages: usize },
    Sync,
    Read { offset: usize, len: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let place = || prop_oneof![0..MAX, (0..MAX / 4096).prop_map(|page| page * 4096)];
    let size = || prop_oneof![0..200usize, 0..20_000usize, Just(4096usize)];
    prop_oneof![
        4 => (place(), size(), any::<u8>(), any::<bool>())
            .prop_map(|(offset, len, byte, sync)| Step::Write { offset, len, byte, sync }),
        1 => place().prop_map(Step::Grow),
        1 => place().prop_map(Step::Cut),
        1 => (0..MAX / 4096, 0..4usize).prop_map(|(page, pages)| Step::Punch { page, pages }),
        1 => Just(Step::Sync),
        2 => (place(), size()).prop_map(|(offset, len)| Step::Read { offset, len }),
    ]
}

/// Bytes that differ from place to place, so that a shift is seen.
fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|i| byte.wrapping_add((i % 251) as u8)).collect()
}

fn run<P: Platform>(platform: &P, steps: &[Step]) -> Result<(), TestCaseError> {
    let punches = platform.capabilities().punch;
    let mut model: Vec<u8> = Vec::new();
    for step in steps {
        match *step {
            Step::Write { offset, len, byte, sync } => {
                let bytes = pattern(len, byte);
                if sync {
                    platform.write_sync(offset as u64, &bytes).unwrap();
                } else {
                    platform.write(offset as u64, &bytes).unwrap();
                }
                if len > 0 {
                    model.resize(model.len().max(offset + len), 0);
                    model[offset..offset + len].copy_from_slice(&bytes);
                }
            }
            Step::Grow(len) => {
                platform.grow(len as u64).unwrap();
                model.resize(model.len().max(len), 0);
            }
            Step::Cut(len) => {
                platform.cut(len as u64).unwrap();
                model.truncate(len);
            }
            Step::Punch { page, pages } => {
                let (from, len) = (page * 4096, pages * 4096);
                let before = platform.allocated().unwrap();
                let gave = platform.punch(from as u64, len as u64).unwrap();
                if punches {
                    let end = (from + len).min(model.len());
                    if from < end {
                        model[from..end].fill(0);
                    }
                    let after = platform.allocated().unwrap();
                    prop_assert_eq!(gave, after < before);
                } else {
                    prop_assert!(!gave);
                }
            }
            Step::Sync => platform.sync().unwrap(),
            Step::Read { offset, len } => {
                let mut buf = vec![0xAA; len];
                let result = platform.read(offset as u64, &mut buf);
                if offset + len <= model.len() {
                    result.unwrap();
                    prop_assert_eq!(&buf[..], &model[offset..offset + len]);
                } else {
                    prop_assert_eq!(result.unwrap_err().kind, PlatformErrorKind::UnexpectedEnd);
                }
            }
        }
        prop_assert_eq!(platform.len().unwrap(), model.len() as u64);
        prop_assert_eq!(platform.is_empty().unwrap(), model.is_empty());
    }
    let mut all = vec![0xAA; model.len()];
    platform.read(0, &mut all).unwrap();
    prop_assert!(all == model, "the bytes differ at the end");
    if let Some(view) = platform.map(model.len() as u64).unwrap() {
        prop_assert!(view.len() >= model.len());
        // SAFETY: below the length, and nobody writes any more.
        let mapped = unsafe { std::slice::from_raw_parts(view.as_ptr(), model.len()) };
        prop_assert!(mapped == model, "the mapped bytes differ");
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

proptest! {
    #[test]
    fn mem_platform(steps in steps()) {
        let memory = MemPlatform::new();
        run(&memory, &steps)?;
        let copy = MemPlatform::from_bytes(&memory.to_bytes().unwrap());
        prop_assert_eq!(copy.to_bytes().unwrap(), memory.to_bytes().unwrap());
    }

    #[test]
    fn mapped_mem(steps in steps()) {
        run(&MappedMem::new(MAX + 20_000).unwrap(), &steps)?;
    }

    #[test]
    fn sim_disk(steps in steps()) {
        let disk = SimDisk::new(1);
        run(&disk, &steps)?;
        let bytes = disk.to_bytes().unwrap();
        prop_assert_eq!(&disk.kill().to_bytes().unwrap(), &bytes);
        disk.sync().unwrap();
        for seed in 0..4 {
            prop_assert!(disk.sample(seed).to_bytes().unwrap() == bytes, "a sync lost bytes");
        }
    }

    #[test]
    fn wrapped(steps in steps()) {
        let log = TraceLog::new();
        let stack = Stats::new(Trace::new(Fault::new(SimDisk::new(1), 1), log.clone()));
        let stats = stack.handle();
        run(&stack, &steps)?;
        let calls: u64 =
            allod_mem::OperationKind::ALL.into_iter().map(|k| stats.counts().of(k).calls).sum();
        prop_assert_eq!(calls, log.lines().len() as u64);
    }
}

#[test]
fn a_clone_is_a_handle_and_a_snapshot_is_not() {
    let memory = MemPlatform::new();
    memory.write(0, &[1; 10_000]).unwrap();
    let handle = memory.clone();
    let snapshot = memory.snapshot();
    drop(memory);
    handle.write(5_000, &[2]).unwrap();
    handle.cut(6_000).unwrap();
    assert_eq!(snapshot.to_bytes().unwrap(), [1; 10_000]);
    snapshot.write(0, &[3]).unwrap();
    let bytes = handle.to_bytes().unwrap();
    assert_eq!((bytes.len(), bytes[0], bytes[5_000]), (6_000, 1, 2));
}

#[test]
fn memory_is_sparse_and_punching_frees() {
    let memory = MemPlatform::new();
    memory.grow(1 << 50).unwrap();
    assert_eq!(memory.allocated().unwrap(), Some(0));
    memory.write(1 << 40, &[1; 8192]).unwrap();
    assert_eq!(memory.allocated().unwrap(), Some(8192));
    assert!(!memory.punch((1 << 40) + 1, 4096).unwrap(), "no whole page");
    assert!(memory.punch(1 << 40, 4097).unwrap());
    assert_eq!(memory.allocated().unwrap(), Some(4096));
}

// Miri ends the program where an allocator would refuse; the address sanitizer does so unless told
// `allocator_may_return_null=1`.
#[cfg(not(miri))]
#[test]
fn more_bytes_than_there_is_memory_are_an_error() {
    let memory = MemPlatform::new();
    memory.grow(1 << 50).unwrap();
    assert_eq!(memory.to_bytes().unwrap_err().kind, PlatformErrorKind::NoSpace);
}

#[test]
fn a_capacity_is_kept() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(3 * 4096 + 4095));
    let disk = disk.crash(&allod_mem::CrashPlan::oldest());
    capacity_of_three_pages(&disk);
    disk.set_capacity(None);
    disk.write(0, &[0; 5 * 4096]).unwrap();
    capacity_of_three_pages(&MemPlatform::with_capacity_limit(3 * 4096));
    let copy = MemPlatform::with_capacity_limit(3 * 4096).snapshot();
    capacity_of_three_pages(&copy);
}

fn capacity_of_three_pages<P: Platform>(platform: &P) {
    platform.grow(1 << 30).unwrap();
    platform.write(4095, &[1; 2]).unwrap();
    let error = platform.write(4096, &[2; 8193]).unwrap_err();
    assert_eq!(error.kind, PlatformErrorKind::NoSpace);
    assert_eq!(error.range, Some((4096, 8193)));
    let mut buf = [0; 2];
    platform.read(4095, &mut buf).unwrap();
    assert_eq!(buf, [1; 2], "a write that fails changes nothing");
    platform.write_sync(4096, &[2; 8192]).unwrap();
    assert_eq!(platform.write_sync(1 << 20, &[1]).unwrap_err().kind, PlatformErrorKind::NoSpace);
    assert!(platform.punch(0, 4096).unwrap());
    platform.write(1 << 20, &[1]).unwrap();
    assert_eq!(platform.allocated().unwrap(), Some(3 * 4096));
}

#[test]
fn impossible_places_are_errors() {
    fn check<P: Platform>(platform: &P) {
        let no_space = PlatformErrorKind::NoSpace;
        assert_eq!(platform.write(u64::MAX, &[1]).unwrap_err().kind, no_space);
        assert_eq!(platform.write(i64::MAX as u64, &[1]).unwrap_err().kind, no_space);
        assert_eq!(platform.write_sync(u64::MAX - 1, &[1; 9]).unwrap_err().kind, no_space);
        assert_eq!(platform.grow(u64::MAX).unwrap_err().kind, no_space);
        let mut buf = [0; 2];
        for offset in [0, u64::MAX - 1, u64::MAX] {
            let error = platform.read(offset, &mut buf).unwrap_err();
            assert_eq!(error.kind, PlatformErrorKind::UnexpectedEnd);
        }
        platform.cut(u64::MAX).unwrap();
        assert!(!platform.punch(u64::MAX, u64::MAX).unwrap());
        assert!(!platform.punch(0, u64::MAX).unwrap());
        assert_eq!(platform.len().unwrap(), 0);
        platform.read(0, &mut []).unwrap();
        platform.write(7, &[]).unwrap();
        platform.write(u64::MAX, &[]).unwrap();
        platform.write_sync(u64::MAX, &[]).unwrap();
        assert_eq!(platform.len().unwrap(), 0, "nothing written, nothing grown");
    }
    check(&MemPlatform::new());
    check(&MappedMem::new(8192).unwrap());
    check(&MappedMem::new(0).unwrap());
    check(&SimDisk::new(1));
}

#[test]
fn entropy_is_fixed_where_asked_for_and_differs_else() {
    let ids = |platform: &dyn Fn() -> u128| [platform(), platform()];
    let a = MemPlatform::new().with_entropy(7);
    let b = MappedMem::new(1).unwrap().with_entropy(7);
    let c = SimDisk::new(7);
    let [first, second] = ids(&|| a.entropy().unwrap());
    assert_ne!(first, second);
    assert_eq!(ids(&|| b.entropy().unwrap()), [first, second]);
    assert_eq!(ids(&|| c.entropy().unwrap()), [first, second]);
    let new = || MemPlatform::new().entropy().unwrap();
    assert_ne!(new(), new());
    let other = MemPlatform::new();
    assert_ne!(other.entropy().unwrap(), other.snapshot().entropy().unwrap());
}
