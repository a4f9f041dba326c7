//! Each fault of the simulated disk, by name.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::BTreeSet;

use allod_core::PlatformErrorKind;
use allod_core::platform::Platform;
use allod_mem::{CrashPlan, DiskFault, Persisted, SimDisk};

const PAGE: usize = 4096;

fn bytes_of(disk: &SimDisk) -> Vec<u8> {
    disk.to_bytes().unwrap()
}

fn durable(disk: &SimDisk) -> Vec<u8> {
    bytes_of(&disk.crash(&CrashPlan::oldest()))
}

fn fail(nth: u64, persisted: Persisted) -> DiskFault {
    DiskFault::FailSync { nth, persisted }
}

#[test]
fn a_failed_sync_leaves_the_cache_looking_clean() {
    let disk = SimDisk::from_bytes(0, &[1; 3 * PAGE]);
    disk.inject(fail(2, Persisted::Nothing));
    disk.sync().unwrap();
    disk.write(0, &[2; 2 * PAGE]).unwrap();
    let error = disk.sync().unwrap_err();
    assert_eq!((error.kind, error.operation), (PlatformErrorKind::Io, "sync"));
    assert!(disk.in_flight().is_empty());
    assert_eq!(bytes_of(&disk)[..2 * PAGE], [2; 2 * PAGE]);
    assert_eq!(durable(&disk), [1; 3 * PAGE]);

    // The sync that comes next has nothing to write, although it says that all is well.
    disk.write(2 * PAGE as u64, &[3; PAGE]).unwrap();
    disk.sync().unwrap();
    assert_eq!(durable(&disk)[..2 * PAGE], [1; 2 * PAGE]);
    assert_eq!(durable(&disk)[2 * PAGE..], [3; PAGE]);
    assert_eq!(durable(&disk.kill()), durable(&disk));

    // Whoever changes a byte of a lost page has all of it written again.
    disk.write(5, &[4]).unwrap();
    disk.sync().unwrap();
    assert_eq!(durable(&disk)[..PAGE], bytes_of(&disk)[..PAGE]);
    assert_eq!(durable(&disk)[PAGE..2 * PAGE], [1; PAGE]);
    disk.write(PAGE as u64, &[4]).unwrap();
    disk.sync().unwrap();
    assert_eq!(durable(&disk), bytes_of(&disk));
}

#[test]
fn a_failed_sync_persists_any_subset() {
    let mut kinds = BTreeSet::new();
    for seed in 0..40 {
        let disk = SimDisk::from_bytes(0, &[1; PAGE]);
        disk.write(0, &[2; PAGE]).unwrap();
        disk.grow(9999).unwrap();
        disk.inject(fail(1, Persisted::Sample(seed)));
        disk.sync().unwrap_err();
        let left = durable(&disk);
        assert!(left[..PAGE].chunks(512).all(|s| s == [1; 512] || s == [2; 512]));
        kinds.insert((left.len(), left[0], left[512]));
        assert_eq!(durable(&disk), bytes_of(&disk.sample(seed)), "nothing is in flight");
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    let disk = SimDisk::new(0);
    disk.write(0, &[2; PAGE]).unwrap();
    disk.inject(fail(1, Persisted::Everything));
    disk.sync().unwrap_err();
    assert_eq!(durable(&disk), [2; PAGE]);
}

#[test]
fn a_failed_sync_loses_the_length_too() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.write(PAGE as u64, &[2; PAGE]).unwrap();
    disk.inject(fail(1, Persisted::Nothing));
    disk.sync().unwrap_err();
    assert_eq!(disk.len().unwrap(), 8192);
    disk.sync().unwrap();
    assert_eq!(durable(&disk), [1; PAGE]);
    // New bytes bring it back as far as they reach.
    disk.write(PAGE as u64, &[3]).unwrap();
    disk.sync().unwrap();
    assert_eq!(durable(&disk), bytes_of(&disk));

    let disk = SimDisk::from_bytes(0, &[1; 3 * PAGE]);
    disk.cut(PAGE as u64).unwrap();
    disk.inject(fail(1, Persisted::Nothing));
    disk.sync().unwrap_err();
    assert_eq!(durable(&disk), [1; 3 * PAGE], "a cut is lost as well");
    disk.grow(2 * PAGE as u64).unwrap();
    disk.sync().unwrap();
    assert_eq!(durable(&disk).len(), 2 * PAGE);
}

#[test]
fn bytes_behind_a_lost_length_are_lost() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = SimDisk::from_bytes(0, &[1; PAGE]);
        disk.write(PAGE as u64, &[2; PAGE]).unwrap();
        disk.inject(fail(1, Persisted::Sample(seed)));
        disk.sync().unwrap_err();
        if durable(&disk).len() == PAGE {
            disk.grow(3 * PAGE as u64).unwrap();
            let newest = bytes_of(&disk.crash(&CrashPlan::newest()));
            assert_eq!(newest[PAGE..], [0; 2 * PAGE]);
            lost += 1;
        }
    }
    assert!(lost > 0);
}

#[test]
fn a_failed_write_sync_loses_its_own_sectors() {
    let disk = SimDisk::from_bytes(0, &[1; 2 * PAGE]);
    disk.write(0, &[2; PAGE]).unwrap();
    disk.inject(fail(1, Persisted::Nothing));
    let error = disk.write_sync(PAGE as u64, &[3; PAGE]).unwrap_err();
    assert_eq!(error.range, Some((4096, 4096)));
    assert_eq!(bytes_of(&disk)[PAGE..], [3; PAGE]);
    assert_eq!(disk.in_flight().len(), 8, "the other page is in flight still");
    disk.sync().unwrap();
    assert_eq!(durable(&disk)[..PAGE], [2; PAGE]);
    assert_eq!(durable(&disk)[PAGE..], [1; PAGE]);
}

#[test]
fn a_lying_device_keeps_things_in_flight() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.inject(DiskFault::LieAboutSync { nth: 1, count: 2, persisted: Persisted::Nothing });
    disk.write(0, &[2; PAGE]).unwrap();
    disk.sync().unwrap();
    disk.write_sync(PAGE as u64, &[3; PAGE]).unwrap();
    assert_eq!(disk.in_flight().len(), 16);
    assert_eq!(durable(&disk), [1; PAGE]);
    disk.sync().unwrap();
    assert_eq!(durable(&disk), bytes_of(&disk));
    assert_eq!(durable(&disk)[PAGE..], [3; PAGE]);

    let mut kinds = BTreeSet::new();
    for seed in 0..40 {
        let disk = SimDisk::from_bytes(0, &[1; PAGE]);
        let persisted = Persisted::Sample(seed);
        disk.inject(DiskFault::LieAboutSync { nth: 1, count: u64::MAX, persisted });
        disk.write(0, &[2; 2 * PAGE]).unwrap();
        disk.sync().unwrap();
        let left = durable(&disk);
        kinds.insert((left.len(), left[0], left[512]));
        disk.clear_faults();
        disk.sync().unwrap();
        assert_eq!(durable(&disk), [2; 2 * PAGE]);
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

#[test]
fn a_flipped_bit_is_flipped_everywhere() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.write(0, &[3]).unwrap();
    let before = disk.kill();
    disk.inject(DiskFault::FlipBit { offset: 0, bit: 2 });
    disk.inject(DiskFault::FlipBit { offset: 100, bit: 15 });
    disk.inject(DiskFault::FlipBit { offset: PAGE as u64, bit: 0 });
    assert_eq!((bytes_of(&disk)[0], bytes_of(&disk)[100]), (7, 129));
    assert_eq!((durable(&disk)[0], durable(&disk)[100]), (5, 129));
    let newest = bytes_of(&disk.crash(&CrashPlan::newest()));
    assert_eq!((newest[0], newest[100]), (7, 129));
    assert_eq!(disk.len().unwrap(), 4096);
    disk.sync().unwrap();
    assert_eq!((durable(&disk)[0], durable(&disk)[100]), (7, 129));
    assert_eq!((bytes_of(&before)[0], bytes_of(&before)[100]), (3, 1), "another disk");
}

#[test]
fn a_write_goes_astray() {
    let disk = SimDisk::from_bytes(0, &[1; 3 * PAGE]);
    disk.inject(DiskFault::MisdirectWrite { nth: 2, page: 2 });
    disk.write(0, &[1]).unwrap();
    disk.write(10, &[5; 20]).unwrap();
    let bytes = bytes_of(&disk);
    assert_eq!(bytes[..PAGE], [1; PAGE]);
    assert_eq!(bytes[2 * PAGE + 10..2 * PAGE + 30], [5; 20]);
    disk.write(10, &[6; 20]).unwrap();
    assert_eq!(bytes_of(&disk)[10..30], [6; 20], "once");

    // The length is right all the same, and what does not fit it is lost.
    disk.inject(DiskFault::MisdirectWrite { nth: 1, page: 3 });
    disk.write_sync(3 * PAGE as u64 - 50, &[7; 100]).unwrap();
    assert_eq!(disk.len().unwrap(), 3 * 4096 + 50);
    assert!(!bytes_of(&disk).contains(&7));
    disk.inject(DiskFault::MisdirectWrite { nth: 1, page: u64::MAX });
    disk.write(0, &[7; 100]).unwrap();
    assert!(!bytes_of(&disk).contains(&7));
}

#[test]
fn a_read_comes_from_elsewhere() {
    let mut content = [1; 2 * PAGE];
    content[PAGE..].fill(2);
    let disk = SimDisk::from_bytes(0, &content);
    disk.inject(DiskFault::MisdirectRead { nth: 1, page: 1 });
    let mut buf = [9; 20];
    disk.read(PAGE as u64 - 10, &mut buf).unwrap();
    assert_eq!(buf[..10], [2; 10]);
    assert_eq!(buf[10..], [0; 10]);
    disk.read(PAGE as u64 - 10, &mut buf).unwrap();
    assert_eq!((buf[0], buf[19]), (1, 2));
}
