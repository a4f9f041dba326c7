//! The platforms that wrap another one.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use allod_core::platform::{Capabilities, Mapping, Platform};
use allod_core::{PlatformError, PlatformErrorKind};
use allod_mem::{
    Call, CrashPlan, Fault, FaultRule, MappedMem, MemPlatform, Operation, OperationKind,
    OperationSet, Part, SimDisk, Stats, Trace, TraceLog, When,
};

#[test]
fn everything_is_forwarded() {
    fn check<P: Platform>(platform: P) {
        assert_eq!(platform.capabilities(), Capabilities { punch: false, ..Default::default() });
        platform.grow(8192).unwrap();
        platform.write(0, b"mapped").unwrap();
        let view = platform.map(8192).unwrap().unwrap();
        // SAFETY: below the length, and nobody writes any more.
        assert_eq!(unsafe { std::slice::from_raw_parts(view.as_ptr(), 6) }, b"mapped");
        assert_eq!(platform.len().unwrap(), 8192);
        assert!(!platform.is_empty().unwrap());
        platform.cut(10).unwrap();
        assert_eq!(platform.len().unwrap(), 10);
        assert!(!platform.punch(0, 4096).unwrap());
        assert_eq!(platform.allocated().unwrap(), None);
        let same = MemPlatform::new().with_entropy(1).entropy().unwrap();
        assert_eq!(platform.entropy().unwrap(), same);
        assert_eq!(platform.thread(), MemPlatform::new().thread());
        platform.yield_now();
    }
    let memory = || MappedMem::new(8192).unwrap().with_entropy(1);
    check(Fault::new(memory(), 0));
    check(Trace::new(memory(), TraceLog::new()));
    check(Stats::new(memory()));
    check(Fault::new(Trace::new(Stats::new(memory()), |_: &Call<'_>| ()), 0));
}

#[test]
fn write_sync_stays_a_write_sync() {
    fn check<P: Platform>(wrap: impl Fn(SimDisk) -> P) {
        let disk = SimDisk::new(0);
        let platform = wrap(disk.clone());
        platform.write(0, &[1]).unwrap();
        platform.write_sync(4096, &[2]).unwrap();
        let left = disk.crash(&CrashPlan::oldest()).to_bytes().unwrap();
        assert_eq!((left[0], left[4096]), (0, 2));
    }
    check(|disk| Fault::new(disk, 0));
    check(|disk| Trace::new(disk, TraceLog::new()));
    check(Stats::new);
}

#[test]
fn the_nth_call_of_a_kind_fails_once() {
    let platform = Fault::new(MemPlatform::new(), 0);
    let faults = platform.handle();
    platform.write(0, &[1]).unwrap();
    faults.add(FaultRule::nth(OperationKind::Write, 2, PlatformErrorKind::Io));
    platform.write(0, &[2]).unwrap();
    platform.sync().unwrap();
    let error = platform.write(7, &[3, 3]).unwrap_err();
    let expected = PlatformError::new(PlatformErrorKind::Io, "write").at(7, 2).detail("injected");
    assert_eq!(error, expected);
    assert_eq!(platform.len().unwrap(), 1);
    platform.write(7, &[3, 3]).unwrap();
    assert_eq!(faults.fired(), 1);
}

#[test]
fn every_operation_can_fail() {
    type Act = fn(&Fault<MemPlatform>) -> Result<(), PlatformError>;
    let acts: [Act; 11] = [
        |p| p.len().map(|_| ()),
        |p| p.grow(1),
        |p| p.cut(1),
        |p| p.read(0, &mut []),
        |p| p.write(0, &[]),
        |p| p.write_sync(0, &[]),
        |p| p.sync(),
        |p| p.punch(0, 1).map(|_| ()),
        |p| p.map(0).map(|_| ()),
        |p| p.allocated().map(|_| ()),
        |p| p.entropy().map(|_| ()),
    ];
    for (i, kind) in OperationKind::ALL.into_iter().enumerate() {
        let platform = Fault::new(MemPlatform::new(), 0);
        let when = When::From(1);
        let (error, part) = (PlatformErrorKind::Locked, Part::Nothing);
        platform.handle().add(FaultRule { operations: kind.into(), when, error, part });
        for (j, act) in acts.iter().enumerate() {
            match act(&platform) {
                Ok(()) => assert_ne!(i, j, "{kind} must fail"),
                Err(error) => {
                    assert_eq!(i, j, "{kind} alone must fail");
                    assert_eq!(
                        (error.operation, error.kind),
                        (kind.name(), PlatformErrorKind::Locked)
                    );
                }
            }
        }
        platform.handle().set_enabled(false);
        assert!(acts.iter().all(|act| act(&platform).is_ok()));
    }
}

#[test]
fn a_part_of_the_work_is_done() {
    let disk = SimDisk::new(0);
    let platform = Fault::new(disk.clone(), 0);
    let faults = platform.handle();
    let io = PlatformErrorKind::Io;
    faults.add(FaultRule::nth(OperationKind::Write, 1, io).part(Part::Bytes(3)));
    platform.write(0, b"allod").unwrap_err();
    assert_eq!(disk.to_bytes().unwrap(), b"all");
    faults.add(FaultRule::nth(OperationKind::Write, 1, io).part(Part::Everything));
    platform.write(0, b"ALLOD").unwrap_err();
    assert_eq!(disk.to_bytes().unwrap(), b"ALLOD");
    faults.add(FaultRule::nth(OperationKind::Read, 1, io).part(Part::Bytes(2)));
    let mut buf = *b".....";
    platform.read(0, &mut buf).unwrap_err();
    assert_eq!(&buf, b"AL...");

    let durable = || disk.crash(&CrashPlan::oldest()).to_bytes().unwrap();
    faults.add(FaultRule::nth(OperationKind::WriteSync, 1, io).part(Part::Bytes(99)));
    platform.write_sync(0, b"other").unwrap_err();
    assert_eq!((disk.to_bytes().unwrap(), durable()), (b"other".to_vec(), vec![]));
    faults.add(FaultRule::nth(OperationKind::Sync, 1, io).part(Part::Bytes(99)));
    platform.sync().unwrap_err();
    assert_eq!(durable(), b"");
    faults.add(FaultRule::nth(OperationKind::Sync, 1, io).part(Part::Everything));
    platform.sync().unwrap_err();
    assert_eq!(durable(), b"other");
    faults.add(FaultRule::nth(OperationKind::WriteSync, 1, io).part(Part::Everything));
    platform.write_sync(0, b"again").unwrap_err();
    assert_eq!(durable(), b"again");
    assert_eq!(faults.fired(), 7);
}

#[test]
fn a_disk_fills_up_and_is_emptied() {
    let platform = Fault::new(MemPlatform::new(), 0);
    let faults = platform.handle();
    faults.add(FaultRule::full_disk(2));
    platform.grow(10).unwrap();
    for _ in 0..3 {
        assert_eq!(platform.write(0, &[1]).unwrap_err().kind, PlatformErrorKind::NoSpace);
        assert_eq!(platform.write_sync(0, &[1]).unwrap_err().kind, PlatformErrorKind::NoSpace);
        assert_eq!(platform.grow(20).unwrap_err().kind, PlatformErrorKind::NoSpace);
    }
    platform.cut(5).unwrap();
    platform.sync().unwrap();
    faults.clear();
    platform.write(0, &[1]).unwrap();
}

#[test]
fn chance_follows_the_seed() {
    let outcomes = |seed, chances| {
        let platform = Fault::new(MemPlatform::new(), seed);
        let rule = FaultRule::by_chance(OperationSet::WRITES, chances, PlatformErrorKind::Io);
        platform.handle().add(rule);
        (0..1000).map(|_| platform.write(0, &[1]).is_err()).collect::<Vec<_>>()
    };
    let some = outcomes(1, 250_000);
    assert_eq!(some, outcomes(1, 250_000));
    assert_ne!(some, outcomes(2, 250_000));
    let failed = some.iter().filter(|&&failed| failed).count();
    assert!((150..350).contains(&failed), "{failed} of 1000");
    assert!(outcomes(1, 0).iter().all(|&failed| !failed));
    assert!(outcomes(1, 1_000_000).iter().all(|&failed| failed));
}

#[test]
fn a_trace_tells_all() {
    let log = TraceLog::new();
    let platform = Trace::new(Fault::new(MemPlatform::new(), 0), log.clone());
    let faults = platform.inner().handle();
    platform.grow(8192).unwrap();
    platform.write(0, &[1; 4096]).unwrap();
    platform.write_sync(4096, &[1; 10]).unwrap();
    platform.read(1, &mut [0; 2]).unwrap();
    platform.punch(0, 4096).unwrap();
    platform.punch(0, 4096).unwrap();
    platform.map(9).unwrap();
    platform.allocated().unwrap();
    platform.entropy().unwrap();
    platform.cut(7).unwrap();
    faults.add(FaultRule::nth(OperationKind::Sync, 1, PlatformErrorKind::Io));
    platform.sync().unwrap_err();
    platform.len().unwrap();
    let expected = "grow 8192\nwrite 0+4096\nwrite_sync 4096+10\nread 1+2\npunch 0+4096 = 1\n\
                    punch 0+4096 = 0\nmap 9\nallocated = 4096\nentropy\ncut 7\n\
                    sync failed: input/output error\nlen = 7\n";
    assert_eq!(log.text(), expected);
    log.clear();
    assert!(log.lines().is_empty());
}

#[test]
fn a_function_is_a_sink() {
    let (send, receive) = std::sync::mpsc::channel();
    let send = std::sync::Mutex::new(send);
    let platform = Trace::new(MappedMem::new(100).unwrap(), move |call: &Call<'_>| {
        let answer = call.answer.map_err(|error| error.kind);
        send.lock().unwrap().send((*call.operation, answer, call.thread)).unwrap();
    });
    platform.map(7).unwrap();
    platform.grow(101).unwrap_err();
    let thread = platform.thread();
    drop(platform);
    let told: Vec<_> = receive.iter().collect();
    let expected = [
        (Operation::Map { len: 7 }, Ok(Some(100)), thread),
        (Operation::Grow { len: 101 }, Err(PlatformErrorKind::NoSpace), thread),
    ];
    assert_eq!(told, expected);
}

#[test]
fn stats_count() {
    let platform = Stats::new(Fault::new(MemPlatform::new(), 0));
    let stats = platform.handle();
    platform.inner().handle().add(FaultRule::nth(OperationKind::Write, 2, PlatformErrorKind::Io));
    platform.write(0, &[1; 4096]).unwrap();
    platform.write(4096, &[1; 4096]).unwrap_err();
    let before = stats.counts();
    platform.write_sync(0, &[1; 10]).unwrap();
    platform.sync().unwrap();
    platform.read(0, &mut [0; 7]).unwrap();
    platform.punch(0, 4096).unwrap();
    platform.punch(0, 4096).unwrap();
    let counts = stats.counts();
    let of = |kind| {
        let count = counts.of(kind);
        (count.calls, count.failures, count.bytes)
    };
    assert_eq!(of(OperationKind::Write), (2, 1, 4096));
    assert_eq!(of(OperationKind::WriteSync), (1, 0, 10));
    assert_eq!(of(OperationKind::Punch), (2, 0, 4096));
    assert_eq!(of(OperationKind::Len), (0, 0, 0));
    assert_eq!((counts.syncs(), counts.bytes_written(), counts.bytes_read()), (2, 4106, 7));
    let since = counts.since(&before);
    assert_eq!(since.of(OperationKind::Write).calls, 0);
    assert_eq!(since.bytes_read(), 7);
    let text = counts.to_string();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert_eq!(stats.reset(), counts);
    assert_eq!(stats.counts(), Default::default());
}
