//! What a crash of the simulated disk may leave, checked against a model that knows nothing of
//! pages behind reference counts: a list of possible contents for each sector.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use allod_core::platform::Platform;
use allod_mem::{CrashPlan, Fate, Grain, Operation, SimDisk};
use proptest::prelude::*;

const SECTOR: usize = 512;
const PAGE: usize = 4096;
const PAGES: usize = 6;
const MAX: usize = PAGES * PAGE;

type Sector = [u8; SECTOR];

/// The disk as a list of what each sector may be.
struct Model {
    cache: Vec<u8>,
    len: usize,
    durable: Vec<u8>,
    /// Of each sector in flight: what it was durably, and all it has been since.
    versions: BTreeMap<usize, Vec<Sector>>,
    may_break: BTreeSet<usize>,
    lens: Vec<usize>,
}

fn sector(bytes: &[u8], number: usize) -> Sector {
    bytes[number * SECTOR..(number + 1) * SECTOR].try_into().unwrap()
}

impl Model {
    fn new() -> Self {
        Self {
            cache: vec![0; MAX],
            len: 0,
            durable: vec![0; MAX],
            versions: BTreeMap::new(),
            may_break: BTreeSet::new(),
            lens: vec![0],
        }
    }

    fn touch(&mut self, page: usize, breaks: bool) {
        for number in page * 8..(page + 1) * 8 {
            let durable = sector(&self.durable, number);
            let versions = self.versions.entry(number).or_insert_with(|| vec![durable]);
            versions.push(sector(&self.cache, number));
            if breaks {
                self.may_break.insert(number);
            }
        }
    }

    fn resize(&mut self, len: usize) {
        if len != self.len {
            self.len = len;
            self.lens.push(len);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.cache[offset..end].copy_from_slice(bytes);
        for page in offset / PAGE..end.div_ceil(PAGE) {
            self.touch(page, true);
        }
        self.resize(self.len.max(end));
    }

    fn cut(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let whole = len.div_ceil(PAGE);
        let inside = self.has_bytes(len, whole * PAGE - len);
        self.cache[len..].fill(0);
        if inside {
            self.touch(len / PAGE, true);
        }
        // A page that holds nothing but zeros may or may not be there: touching it adds no bytes.
        for page in whole..PAGES {
            self.touch(page, false);
        }
        self.resize(len);
    }

    fn has_bytes(&self, offset: usize, len: usize) -> bool {
        self.cache[offset..offset + len].iter().any(|&byte| byte != 0)
    }

    fn punch(&mut self, page: usize) {
        // A page that holds nothing but zeros may or may not be there: it must then be possible
        // that it breaks, so that the model allows at least what the disk does.
        self.cache[page * PAGE..(page + 1) * PAGE].fill(0);
        self.touch(page, true);
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.cache);
        self.versions.clear();
        self.may_break.clear();
        self.lens = vec![self.len];
    }

    fn write_sync(&mut self, offset: usize, bytes: &[u8]) {
        self.write(offset, bytes);
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let place = number * SECTOR..(number + 1) * SECTOR;
            self.durable[place.clone()].copy_from_slice(&self.cache[place]);
            self.versions.remove(&number);
            self.may_break.remove(&number);
        }
        let durable = self.lens[0].max(end);
        let later = self.lens[1..].iter().copied().filter(|&len| len >= end);
        self.lens = std::iter::once(durable).chain(later).collect();
    }

    /// Whether an image is one of those that may be.
    fn allows(&self, image: &[u8]) -> Result<(), String> {
        if !self.lens.contains(&image.len()) {
            return Err(format!("length {} of {:?}", image.len(), self.lens));
        }
        for number in 0..image.len().div_ceil(SECTOR) {
            let end = image.len().min((number + 1) * SECTOR);
            let found = &image[number * SECTOR..end];
            let durable = [sector(&self.durable, number)];
            let versions = self.versions.get(&number).map_or(&durable[..], |v| v);
            let torn = || {
                let head = |v: &Sector| found.iter().zip(v).take_while(|(a, b)| a == b).count();
                let tail =
                    |v: &Sector| found.iter().zip(v).rev().take_while(|(a, b)| a == b).count();
                let longest_head = versions.iter().map(head).max().unwrap();
                let longest_tail = versions.iter().map(tail).max().unwrap();
                versions.len() > 1 && longest_head + longest_tail >= found.len()
            };
            let known = versions.iter().any(|v| &v[..found.len()] == found);
            if !known && !self.may_break.contains(&number) && !torn() {
                return Err(format!("sector {number} has bytes that it cannot have"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, byte: u8 },
    WriteSync { offset: usize, len: usize, byte: u8 },
    Grow(usize),
    Cut(usize),
    Punch(usize),
    Sync,
    Crash(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || prop_oneof![0..MAX, (0..PAGES).prop_map(|page| page * PAGE)];
    let size = || prop_oneof![1..100usize, 1..6000usize, Just(PAGE)];
    let write = || (place(), size(), 1..=255u8);
    prop_oneof![
        6 => write().prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        2 => write().prop_map(|(offset, len, byte)| Step::WriteSync { offset, len, byte }),
        1 => place().prop_map(Step::Grow),
        1 => place().prop_map(Step::Cut),
        1 => (0..PAGES).prop_map(Step::Punch),
        1 => Just(Step::Sync),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ]
}

fn bytes_of(disk: &SimDisk) -> Vec<u8> {
    disk.to_bytes().unwrap()
}

/// Does a step on both. A crash makes one image the disk, and the model learns which.
fn apply(disk: &mut SimDisk, model: &mut Model, step: &Step) {
    let fit = |offset: usize, len: usize| len.min(MAX - offset);
    match *step {
        Step::Write { offset, len, byte } => {
            let bytes = vec![byte; fit(offset, len)];
            disk.write(offset as u64, &bytes).unwrap();
            model.write(offset, &bytes);
        }
        Step::WriteSync { offset, len, byte } => {
            let bytes = vec![byte; fit(offset, len)];
            disk.write_sync(offset as u64, &bytes).unwrap();
            model.write_sync(offset, &bytes);
        }
        Step::Grow(len) => {
            disk.grow(len as u64).unwrap();
            model.resize(len.max(model.len));
        }
        Step::Cut(len) => {
            disk.cut(len as u64).unwrap();
            model.cut(len);
        }
        Step::Punch(page) => {
            if (page + 1) * PAGE <= model.len {
                disk.punch((page * PAGE) as u64, PAGE as u64).unwrap();
                model.punch(page);
            }
        }
        Step::Sync => {
            disk.sync().unwrap();
            model.sync();
        }
        Step::Crash(seed) => {
            *disk = disk.sample(seed);
            let bytes = bytes_of(disk);
            *model = Model::new();
            model.cache[..bytes.len()].copy_from_slice(&bytes);
            model.len = bytes.len();
            model.sync();
        }
        Step::Kill => *disk = disk.kill(),
    }
}

fn check(disk: &SimDisk, model: &Model, seed: u64) -> Result<(), TestCaseError> {
    let allowed = |image: &SimDisk, what: &str| {
        model.allows(&bytes_of(image)).map_err(|e| TestCaseError::fail(format!("{what}: {e}")))
    };
    prop_assert_eq!(&bytes_of(disk), &model.cache[..model.len]);
    prop_assert_eq!(disk.lengths(), model.lens.iter().map(|&l| l as u64).collect::<Vec<_>>());
    for flying in disk.in_flight() {
        let versions = model.versions.get(&(flying.sector as usize));
        prop_assert!(versions.is_some(), "sector {} is in flight", flying.sector);
    }
    // Nothing but what was durable; and everything.
    let mut durable = model.durable[..model.lens[0]].to_vec();
    durable.resize(model.lens[0], 0);
    prop_assert!(bytes_of(&disk.crash(&CrashPlan::oldest())) == durable, "oldest");
    let newest = disk.crash(&CrashPlan::newest());
    prop_assert!(bytes_of(&newest) == model.cache[..model.len], "newest");
    prop_assert!(newest.in_flight().is_empty());
    allowed(&disk.crash(&CrashPlan::garbage(seed)), "garbage")?;
    for i in 0..6 {
        let seed = seed.wrapping_add(i);
        let image = disk.sample(seed);
        allowed(&image, "sample")?;
        let again = disk.crash(&disk.sample_plan(seed));
        prop_assert!(bytes_of(&again) == bytes_of(&image), "the plan of a sample is the sample");
    }
    for grain in [Grain::Sector, Grain::Page, Grain::Call] {
        let images = disk.images(grain);
        let count = images.count_images();
        for i in 0..6u64 {
            let number = seed.wrapping_mul(i | 1) % count;
            allowed(&images.image(number).unwrap(), "image")?;
        }
        prop_assert!(images.image(count).is_none());
    }
    Ok(())
}

proptest! {
    #[test]
    fn images_are_possible_and_synced_bytes_survive(
        steps in prop::collection::vec(step(), 1..24),
        seed in any::<u64>(),
    ) {
        let mut disk = SimDisk::new(0);
        let mut model = Model::new();
        for step in &steps {
            apply(&mut disk, &mut model, step);
            check(&disk, &model, seed)?;
        }
    }

    #[test]
    fn every_sector_of_the_model_is_in_flight(
        writes in prop::collection::vec((0..MAX - 600, 1..600usize, 1..=255u8), 1..8),
    ) {
        // Where there is no cut and no punch, the model allows no more than the disk does.
        let disk = SimDisk::new(0);
        let mut model = Model::new();
        for &(offset, len, byte) in &writes {
            disk.write(offset as u64, &vec![byte; len]).unwrap();
            model.write(offset, &vec![byte; len]);
        }
        let expected: Vec<_> =
            model.versions.iter().map(|(&s, v)| (s as u64, v.len() as u32)).collect();
        let found: Vec<_> = disk.in_flight().iter().map(|f| (f.sector, f.versions)).collect();
        prop_assert_eq!(found, expected);
        for (&number, versions) in &model.versions {
            for (i, version) in versions.iter().enumerate() {
                let mut plan = CrashPlan { length: u32::MAX, ..CrashPlan::oldest() };
                plan.sectors.insert(number as u64, Fate::Version(i as u32));
                let image = bytes_of(&disk.crash(&plan));
                let end = image.len().min((number + 1) * SECTOR);
                if number * SECTOR < end {
                    let found = &image[number * SECTOR..end];
                    prop_assert_eq!(found, &version[..found.len()]);
                }
            }
        }
    }
}

#[test]
fn one_byte_puts_the_page_in_flight_and_only_that() {
    let disk = SimDisk::from_bytes(0, &[1; 3 * PAGE]);
    assert!(disk.in_flight().is_empty());
    disk.write(PAGE as u64 + 700, &[2]).unwrap();
    let sectors: Vec<_> = disk.in_flight().iter().map(|flying| flying.sector).collect();
    assert_eq!(sectors, (8..16).collect::<Vec<_>>());
    let broken = bytes_of(&disk.crash(&CrashPlan::garbage(1)));
    assert_eq!(broken[..PAGE], [1; PAGE]);
    assert_eq!(broken[2 * PAGE..], [1; PAGE]);
    for number in 8..16 {
        assert_ne!(sector(&broken, number), [1; SECTOR], "sector {number} is garbage");
    }
}

#[test]
fn sectors_survive_on_their_own() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.write(0, &[2; 1024]).unwrap();
    disk.write(512, &[3; 512]).unwrap();
    let images = disk.images(Grain::Sector);
    // The first sector is 1 or 2, the second 1, 2 or 3, six others 1; each may be garbage.
    assert_eq!(images.count_images(), 3 * 4 * 2u64.pow(6));
    let pairs: BTreeSet<_> = images
        .iter()
        .map(|image| bytes_of(&image))
        .filter(|bytes| bytes[1024..] == [1; PAGE - 1024])
        .filter(|bytes| [0, 1].map(|s| sector(bytes, s)).iter().all(|s| *s == [s[0]; SECTOR]))
        .map(|bytes| (bytes[0], bytes[512]))
        .filter(|pair| (1..=3).contains(&pair.0) && (1..=3).contains(&pair.1))
        .collect();
    assert_eq!(pairs, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)].into());
}

#[test]
fn pages_and_lengths_multiply() {
    let disk = SimDisk::new(0);
    disk.write(0, &[1; 8192]).unwrap();
    disk.write(4096, &[2; 4096]).unwrap();
    // Lengths 0 and 8192; pages {0, 1, garbage} and {0, 1, 2, garbage}.
    let images = disk.images(Grain::Page);
    assert_eq!(images.count_images(), 2 * 3 * 4);
    let all: BTreeSet<_> = images.iter().map(|image| bytes_of(&image)).collect();
    assert_eq!(all.len(), 12 + 1);
    // The same bytes again are in flight again, and one call more, but not one image more.
    disk.write(4096, &[2; 4096]).unwrap();
    assert_eq!(disk.images(Grain::Page).count_images(), 2 * 3 * 4);
    assert_eq!(disk.images(Grain::Call).count_images(), 3 * 3 * 3);
    disk.sync().unwrap();
    for grain in [Grain::Sector, Grain::Page, Grain::Call] {
        assert_eq!(disk.images(grain).count_images(), 1);
    }
}

#[test]
fn calls_are_lost_kept_or_broken() {
    let disk = SimDisk::from_bytes(0, &[0; PAGE]);
    disk.write(0, &[1]).unwrap();
    disk.write(1, &[2]).unwrap();
    let images = disk.images(Grain::Call);
    assert_eq!(images.count_images(), 9);
    let first: Vec<_> = images.iter().map(|image| bytes_of(&image)[..2].to_vec()).collect();
    // The first digit is that of the first call.
    assert_eq!(first[0], [0, 0]);
    assert_eq!(first[1], [1, 0]);
    // The page as the second call left it holds the bytes of the first, too.
    assert_eq!(
        (&first[3][..], &first[4][..], &first[5][..]),
        (&[1, 2][..], &[1, 2][..], &[1, 2][..])
    );
    let broken = bytes_of(&images.image(6).unwrap());
    assert!(broken[2..].iter().any(|&byte| byte != 0));
}

#[test]
fn lengths_go_with_their_calls() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.grow(3 * PAGE as u64).unwrap();
    disk.cut(PAGE as u64 / 2).unwrap();
    assert_eq!(disk.lengths(), [4096, 12288, 2048]);
    let images = disk.images(Grain::Call);
    let lens: Vec<_> = images.iter().map(|image| image.len().unwrap()).collect();
    assert_eq!(lens, [4096, 12288, 12288, 2048, 2048, 2048, 2048, 2048, 2048]);
}

#[test]
fn tearing_splits_a_sector() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.write(0, &[2; PAGE]).unwrap();
    let mut plan = CrashPlan::oldest();
    plan.sectors.insert(0, Fate::Torn { head: 1, tail: 0, split: 100 });
    plan.sectors.insert(1, Fate::Torn { head: 0, tail: u32::MAX, split: 9999 });
    plan.sectors.insert(900, Fate::NEWEST);
    let bytes = bytes_of(&disk.crash(&plan));
    assert_eq!(bytes[..100], [2; 100]);
    assert_eq!(bytes[100..], [1; PAGE - 100]);
}

#[test]
fn cut_bytes_come_back_or_not_but_never_as_garbage() {
    let disk = SimDisk::from_bytes(0, &[1; 2 * PAGE]);
    disk.cut(PAGE as u64).unwrap();
    disk.grow(2 * PAGE as u64).unwrap();
    assert_eq!(bytes_of(&disk)[PAGE..], [0; PAGE]);
    let seen: BTreeSet<_> = (0..200).map(|seed| bytes_of(&disk.sample(seed))).collect();
    assert!(seen.contains(&vec![1; 2 * PAGE]), "neither the cut nor the growth");
    assert!(seen.contains(&vec![1; PAGE]), "the cut without the growth");
    assert!(seen.contains(&bytes_of(&disk)));
    assert!(seen.iter().flatten().all(|&byte| byte <= 1));
    // Where zeros were all there was to write inside the page, nothing is in flight there.
    let disk = SimDisk::from_bytes(0, &[0; PAGE]);
    disk.cut(100).unwrap();
    assert!(disk.in_flight().is_empty());
    disk.write_sync(0, &[1; 100]).unwrap();
    disk.grow(200).unwrap();
    disk.sync().unwrap();
    disk.cut(50).unwrap();
    assert!(disk.in_flight().iter().all(|flying| flying.may_break));
}

#[test]
fn a_punched_page_is_zeros_old_or_garbage() {
    let disk = SimDisk::from_bytes(0, &[1; 2 * PAGE]);
    assert!(disk.punch(0, PAGE as u64).unwrap());
    assert!(!disk.punch(0, PAGE as u64).unwrap(), "nothing left to give back");
    let kinds: Vec<_> = disk
        .images(Grain::Page)
        .iter()
        .map(|image| {
            let bytes = bytes_of(&image);
            assert_eq!(bytes[PAGE..], [1; PAGE]);
            bytes[..PAGE].to_vec()
        })
        .collect();
    assert_eq!(kinds.len(), 3);
    assert_eq!((&kinds[0], &kinds[1]), (&vec![1; PAGE], &vec![0; PAGE]));
    assert!(kinds[2] != kinds[0] && kinds[2] != kinds[1]);
}

#[test]
fn write_sync_covers_its_bytes_and_no_more() {
    let disk = SimDisk::new(0);
    disk.write(0, &[1; PAGE]).unwrap();
    disk.grow(10 * PAGE as u64).unwrap();
    disk.write_sync(2 * PAGE as u64, &[2; 600]).unwrap();
    // It needs a length; what it need not take is that of the growth.
    assert_eq!(disk.lengths(), [2 * 4096 + 600, 10 * 4096]);
    let oldest = bytes_of(&disk.crash(&CrashPlan::oldest()));
    assert_eq!(oldest[..2 * PAGE], [0; 2 * PAGE]);
    assert_eq!(oldest[2 * PAGE..], [2; 600]);
    let sectors: Vec<_> = disk.in_flight().iter().map(|flying| flying.sector).collect();
    assert_eq!(sectors, (0..8).chain(18..24).collect::<Vec<_>>());
}

#[test]
fn death_of_the_process_keeps_what_is_in_flight() {
    let disk = SimDisk::from_bytes(0, &[1; PAGE]);
    disk.write(0, &[2; PAGE]).unwrap();
    let next = disk.kill();
    disk.sync().unwrap();
    assert_eq!(bytes_of(&next), [2; PAGE]);
    assert_eq!(next.in_flight().len(), 8);
    assert_eq!(bytes_of(&next.crash(&CrashPlan::oldest())), [1; PAGE]);
    next.sync().unwrap();
    assert_eq!(bytes_of(&next.crash(&CrashPlan::oldest())), [2; PAGE]);
}

#[test]
fn the_observer_sees_every_instant() {
    let disk = SimDisk::new(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    disk.set_observer(Some(Arc::new(move |disk: &SimDisk, operation: &Operation| {
        let images = disk.images(Grain::Page).count_images();
        sink.lock().unwrap().push((operation.to_string(), disk.operations(), images));
    })));
    disk.write(0, &[1]).unwrap();
    disk.sync().unwrap();
    disk.write_sync(0, &[2]).unwrap();
    disk.read(0, &mut [0]).unwrap();
    disk.grow(4096).unwrap();
    disk.cut(4096).unwrap();
    disk.punch(0, 4096).unwrap();
    disk.set_observer(None);
    disk.sync().unwrap();
    let seen = seen.lock().unwrap().clone();
    let expected = [
        ("write 0+1", 1, 6),
        ("sync", 2, 6),
        ("sync", 2, 1),
        ("write_sync 0+1", 3, 3),
        // The other sectors of the page may be garbage still.
        ("write_sync 0+1", 3, 2),
        ("grow 4096", 4, 4),
        ("cut 4096", 5, 4),
        ("punch 0+4096", 6, 6),
    ];
    assert_eq!(seen, expected.map(|(text, number, images)| (text.to_string(), number, images)));
    assert_eq!(disk.operations(), 7);
}

#[test]
fn samples_are_deterministic_and_many() {
    let history = || {
        let disk = SimDisk::from_bytes(3, &[1; 4 * PAGE]);
        disk.write(100, &[2; 9000]).unwrap();
        disk.write(5000, &[3; 100]).unwrap();
        disk
    };
    let (a, b) = (history(), history());
    let mut all = BTreeSet::new();
    for seed in 0..100 {
        let image = bytes_of(&a.sample(seed));
        assert_eq!(image, bytes_of(&b.sample(seed)));
        all.insert(image);
    }
    assert!(all.len() > 60, "{} different images", all.len());
}
