//! The mapping of plain memory: it stays where it is while others write and grow. Small enough for
//! Miri.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use allod_core::PlatformErrorKind;
use allod_core::platform::{Mapping, Platform};
use allod_mem::{MappedMem, MappedView};

/// The bytes of a view.
fn slice(view: &MappedView, offset: usize, len: usize) -> &[u8] {
    assert!(offset + len <= view.len());
    // SAFETY: inside the view; the tests write elsewhere while the slice lives.
    unsafe { std::slice::from_raw_parts(view.as_ptr().add(offset), len) }
}

#[test]
fn a_slice_survives_writes_elsewhere() {
    let memory = MappedMem::new(3 * 4096).unwrap();
    memory.write(0, b"here").unwrap();
    let view = memory.map(4).unwrap().unwrap();
    let here = slice(&view, 0, 4);
    memory.write(4, b"there").unwrap();
    memory.grow(2 * 4096).unwrap();
    memory.write(8000, &[1; 1000]).unwrap();
    assert_eq!(here, b"here");
    let mut buf = [0; 4];
    memory.read(0, &mut buf).unwrap();
    memory.cut(100).unwrap();
    assert_eq!(here, b"here");
    memory.grow(9000).unwrap();
    assert_eq!(slice(&view, 4, 5), b"there");
    assert_eq!(slice(&view, 8000, 1000), [0; 1000], "what was cut off comes back as zeros");
}

#[test]
fn a_view_outlives_the_platform() {
    let memory = MappedMem::new(4096).unwrap();
    memory.write(10, b"allod").unwrap();
    let view = memory.clone().map(4096).unwrap().unwrap();
    let second = memory.map(0).unwrap().unwrap();
    assert_eq!(view.as_ptr(), second.as_ptr());
    drop((memory, second));
    assert_eq!(slice(&view, 10, 5), b"allod");
    assert!(format!("{view:?}").contains("4096"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let memory = MappedMem::new(100).unwrap();
    assert!(memory.map(100).unwrap().is_some());
    assert!(memory.map(101).unwrap().is_none());
    memory.write(90, &[1; 10]).unwrap();
    let error = memory.write(91, &[1; 10]).unwrap_err();
    assert_eq!((error.kind, error.range), (PlatformErrorKind::NoSpace, Some((91, 10))));
    assert_eq!(memory.grow(101).unwrap_err().kind, PlatformErrorKind::NoSpace);
    assert_eq!(memory.len().unwrap(), 100);
    assert_eq!(memory.to_bytes().unwrap()[90..], [1; 10]);
    assert_eq!(MappedMem::new(usize::MAX).unwrap_err().kind, PlatformErrorKind::NoSpace);
    let none = MappedMem::new(0).unwrap();
    assert!(none.map(0).unwrap().unwrap().is_empty());
}

#[test]
fn readers_of_a_mapping_and_a_writer_elsewhere() {
    let memory = MappedMem::new(1 << 16).unwrap();
    memory.write(0, &[7; 4096]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let view = memory.map(4096).unwrap().unwrap();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(slice(&view, 0, 4096).iter().all(|&byte| byte == 7));
                }
            });
        }
        let writer = memory.clone();
        scope.spawn(move || {
            for page in 1..15u8 {
                writer.write(u64::from(page) * 4096, &[page; 4096]).unwrap();
            }
        });
        let mut buf = [0; 4096];
        memory.read(0, &mut buf).unwrap();
        assert_eq!(buf, [7; 4096]);
    });
    assert_eq!(memory.len().unwrap(), 15 * 4096);
}
