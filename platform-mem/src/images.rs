//! Every crash image there is, by number: [`Images`].
//!
//! Sectors multiply: a write of two pages has 3^16 images, most of which teach nothing. So the
//! [`Grain`] says what may survive on its own.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::disk::{Settings, SimDisk};
use crate::flight::{Fate, SECTORS, sector_bytes};
use crate::medium::Medium;
use crate::pages::Page;

/// What meets a fate of its own when all crash images are counted.
///
/// Lengths are counted too: each that the file had since it was durable, on its own for sectors and
/// pages, along with their calls for calls. Images may be equal, where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grain {
    /// Each sector: each version whose bytes differ from the one before, or garbage. Tearing inside
    /// a sector is left to [`SimDisk::sample`] and [`SimDisk::crash`].
    Sector,
    /// Each page: each version, or garbage as a whole.
    Page,
    /// Each call that changed something: it is lost, it reached the disk as a whole, or (writes and
    /// punches) the pages it touched are garbage where no later call that reached the disk wrote
    /// them again.
    Call,
}

/// All crash images of a [`SimDisk`] at one moment; later changes of the disk do not matter.
///
/// ```
/// use allod_core::platform::Platform;
/// use allod_mem::{Grain, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.write_sync(0, &[b'a'; 4096])?;
/// disk.write(0, &[b'b'; 4096])?;
/// let images = disk.images(Grain::Page);
/// assert_eq!(images.count_images(), 3);
/// let first: Vec<u8> = images.iter().map(|image| image.to_bytes().unwrap()[0]).collect();
/// assert_eq!(first[..2], *b"ab"); // and garbage
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
pub struct Images {
    medium: Medium,
    settings: Settings,
    lengths: Vec<u64>,
    choices: Choices,
    count: u64,
}

enum Choices {
    /// For each sector in flight, its number and its fates.
    Sectors(Vec<(u64, Vec<Fate>)>),
    /// For each page in flight, what it may be.
    Pages(Vec<(u64, Vec<Option<Arc<Page>>>)>),
    /// Each call of which something is in flight.
    Calls(Vec<u64>),
}

const LOST: u64 = 0;
const BROKEN: u64 = 2;
/// Lost, kept, broken.
const FATES_OF_A_CALL: u64 = 3;

impl Images {
    pub(crate) fn new(medium: Medium, settings: Settings, grain: Grain) -> Self {
        let mut lengths: Vec<_> = medium.lengths().map(|(_, len)| len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let choices = match grain {
            Grain::Sector => Choices::Sectors(sectors(&medium)),
            Grain::Page => Choices::Pages(pages(&medium)),
            Grain::Call => Choices::Calls(calls(&medium)),
        };
        let product = |sizes: &mut dyn Iterator<Item = usize>| {
            sizes.fold(lengths.len() as u64, |count, size| count.saturating_mul(size as u64))
        };
        let count = match &choices {
            Choices::Sectors(all) => product(&mut all.iter().map(|(_, fates)| fates.len())),
            Choices::Pages(all) => product(&mut all.iter().map(|(_, pages)| pages.len())),
            Choices::Calls(all) => {
                (0..all.len()).fold(1, |count: u64, _| count.saturating_mul(FATES_OF_A_CALL))
            }
        };
        Self { medium, settings, lengths, choices, count }
    }

    /// How many images there are; `u64::MAX` where there are as many or more.
    #[must_use]
    pub fn count_images(&self) -> u64 {
        self.count
    }

    /// The image of a number below [`count_images`](Self::count_images): a disk on which all is
    /// durable. The first ones are those of which least survived. Costs what is in flight, and for
    /// pages no copy.
    #[must_use]
    pub fn image(&self, number: u64) -> Option<SimDisk> {
        if number >= self.count {
            return None;
        }
        let mut digits = Digits(number);
        let medium = match &self.choices {
            Choices::Sectors(all) => {
                let fates: Vec<_> = all
                    .iter()
                    .map(|(sector, fates)| (*sector, digits.of(fates).copied()))
                    .collect();
                let len = digits.of(&self.lengths).copied()?;
                let mut next = fates.into_iter().peekable();
                self.medium.image(len, |index, _| {
                    core::array::from_fn(|sector| {
                        let number = index * SECTORS as u64 + sector as u64;
                        next.next_if(|&(listed, _)| listed == number)
                            .and_then(|(_, fate)| fate)
                            .unwrap_or(Fate::OLDEST)
                    })
                })
            }
            Choices::Pages(all) => {
                let pages =
                    all.iter().map(|(index, pages)| (*index, digits.of(pages).cloned().flatten()));
                // The last digit is that of the length, but the pages are drawn lazily.
                let pages: Vec<_> = pages.collect();
                let len = digits.of(&self.lengths).copied()?;
                self.medium.image_of(len, pages.into_iter())
            }
            Choices::Calls(all) => {
                let fates: Vec<_> = all.iter().map(|_| digits.digit(FATES_OF_A_CALL)).collect();
                self.image_of_calls(all, &fates, number)
            }
        };
        Some(SimDisk::from_medium(medium, self.settings.clone()))
    }

    /// All images in order.
    pub fn iter(&self) -> impl Iterator<Item = SimDisk> + '_ {
        (0..self.count).map_while(|number| self.image(number))
    }

    fn image_of_calls(&self, calls: &[u64], fates: &[u64], number: u64) -> Medium {
        let fate_of = |call: u64| {
            let at = calls.binary_search(&call).unwrap_or(usize::MAX);
            fates.get(at).copied().unwrap_or(LOST)
        };
        let len = self
            .medium
            .lengths()
            .filter(|(call, _)| call.is_none_or(|call| fate_of(call) != LOST))
            .last()
            .map_or(0, |(_, len)| len);
        self.medium.image(len, |_, flight| {
            core::array::from_fn(|sector| {
                let mut broken = false;
                let kept = flight.last(sector, |version| {
                    let fate = fate_of(version.call);
                    broken = fate == BROKEN;
                    fate != LOST
                });
                if broken { Fate::Garbage(number) } else { kept }
            })
        })
    }
}

/// The digits of a number in mixed radix, lowest first.
struct Digits(u64);

impl Digits {
    fn digit(&mut self, radix: u64) -> u64 {
        let digit = self.0 % radix.max(1);
        self.0 /= radix.max(1);
        digit
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.digit(choices.len() as u64) as usize)
    }
}

fn sectors(medium: &Medium) -> Vec<(u64, Vec<Fate>)> {
    let mut all = Vec::new();
    for (index, flight) in medium.flight() {
        let durable = medium.durable_page(index);
        for sector in (0..SECTORS).filter(|&sector| flight.has(sector)) {
            let number = index * SECTORS as u64 + sector as u64;
            let shown = |version| sector_bytes(flight.version(durable, sector, version), sector);
            let differs = |&version: &u32| version == 0 || shown(version) != shown(version - 1);
            let versions = (0..flight.count(sector)).filter(differs).map(Fate::Version);
            let garbage = flight.may_break(sector).then_some(Fate::Garbage(number));
            all.push((number, versions.chain(garbage).collect()));
        }
    }
    all
}

fn pages(medium: &Medium) -> Vec<(u64, Vec<Option<Arc<Page>>>)> {
    let mut all = Vec::new();
    for (index, flight) in medium.flight() {
        let durable = medium.durable_page(index);
        let mut choices: Vec<Option<Arc<Page>>> = Vec::new();
        for number in 0..=flight.versions.len() {
            let fates = core::array::from_fn(|sector| flight.upto(sector, number));
            let page = flight.compose(durable, index, &fates);
            if choices.last().is_none_or(|last| !equal(last.as_ref(), page.as_ref())) {
                choices.push(page);
            }
        }
        if flight.any_may_break() {
            choices.push(flight.compose(durable, index, &[Fate::Garbage(index); SECTORS]));
        }
        all.push((index, choices));
    }
    all
}

fn equal(a: Option<&Arc<Page>>, b: Option<&Arc<Page>>) -> bool {
    (0..SECTORS).all(|sector| sector_bytes(a, sector) == sector_bytes(b, sector))
}

fn calls(medium: &Medium) -> Vec<u64> {
    let of_pages = medium.flight().flat_map(|(_, flight)| &flight.versions).map(|v| v.call);
    let of_lengths = medium.lengths().filter_map(|(call, _)| call);
    let mut all: Vec<_> = of_pages.chain(of_lengths).collect();
    all.sort_unstable();
    all.dedup();
    all
}
