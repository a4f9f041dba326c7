//! Which crash images are looked at, and making one from its name.

use allod_mem::{CrashPlan, Grain, Images, PAGE_SIZE, SECTOR_SIZE, SimDisk};

use crate::effort::Effort;
use crate::prng::mix;
use crate::step::Image;

/// The images of one moment that are looked at.
pub(crate) enum Choice {
    /// Every one of this grain.
    All(Grain, Box<Images>),
    /// The extremes, and so many by lot.
    Some(u64, u32),
}

/// Decides which images of the moment are looked at. `calls` is how many calls are in flight, at
/// least.
pub(crate) fn choose(disk: &SimDisk, effort: &Effort, seed: u64, calls: u32) -> Choice {
    // Counting them all costs more than looking at some of them: so only where there may be few.
    let mut breakable: Vec<u64> = disk
        .in_flight()
        .iter()
        .filter(|flight| flight.may_break)
        .map(|flight| flight.sector * u64::from(SECTOR_SIZE) / u64::from(PAGE_SIZE))
        .collect();
    let sectors = breakable.len() as u32;
    breakable.dedup();
    let pages = breakable.len() as u32;
    let least = [(Grain::Sector, 2, sectors), (Grain::Page, 2, pages), (Grain::Call, 3, calls)];
    for (grain, each, in_flight) in least {
        if u64::saturating_pow(each, in_flight) > effort.enumerate {
            continue;
        }
        let images = disk.images(grain);
        if images.count_images() <= effort.enumerate {
            return Choice::All(grain, Box::new(images));
        }
    }
    Choice::Some(seed, effort.samples)
}

impl Choice {
    /// The images to be looked at; of a moment that repeats the last one, only new ones.
    pub(crate) fn images(&self, repeated: bool) -> Box<dyn Iterator<Item = Image> + '_> {
        match self {
            Self::All(..) if repeated => Box::new(core::iter::empty()),
            Self::All(grain, images) => {
                let count = images.count_images() as u32;
                Box::new((0..count).map(move |number| match grain {
                    Grain::Sector => Image::Sector(number),
                    Grain::Page => Image::Page(number),
                    Grain::Call => Image::Call(number),
                }))
            }
            Self::Some(seed, samples) => {
                let seed = *seed;
                // Checksums find what is all garbage: now and then will do.
                let garbage = (seed % 8 == 0).then_some(Image::Garbage(seed as u32));
                let extremes = [Image::Oldest, Image::Newest].into_iter().chain(garbage);
                let extremes = extremes.filter(move |_| !repeated);
                let lots = (0..*samples).map(move |n| Image::Sample(mix(seed, n.into()) as u32));
                Box::new(extremes.chain(lots))
            }
        }
    }

    pub(crate) fn make(&self, disk: &SimDisk, image: Image) -> Option<SimDisk> {
        match (self, image) {
            (Self::All(_, images), Image::Sector(n) | Image::Page(n) | Image::Call(n)) => {
                images.image(n.into())
            }
            _ => make(disk, image),
        }
    }
}

/// The image of that name; none if it is a number that is too high.
pub(crate) fn make(disk: &SimDisk, image: Image) -> Option<SimDisk> {
    match image {
        Image::Oldest => Some(disk.crash(&CrashPlan::oldest())),
        Image::Newest => Some(disk.crash(&CrashPlan::newest())),
        Image::Garbage(seed) => Some(disk.crash(&CrashPlan::garbage(seed.into()))),
        Image::Sample(seed) => Some(disk.sample(seed.into())),
        Image::Sector(number) => disk.images(Grain::Sector).image(number.into()),
        Image::Page(number) => disk.images(Grain::Page).image(number.into()),
        Image::Call(number) => disk.images(Grain::Call).image(number.into()),
    }
}
