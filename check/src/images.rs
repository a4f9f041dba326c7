//! Which crash images are looked at, and making one from its name.

use allod_mem::{CrashPlan, Grain, Images, SimDisk};

use crate::life::Effort;
use crate::prng::mix;
use crate::step::Image;

/// The images of one moment that are looked at.
pub(crate) enum Choice {
    /// Every one of this grain.
    All(Grain, Images),
    /// The extremes, and so many by lot.
    Some(u64, u32),
}

/// Decides which images of the moment are looked at.
pub(crate) fn choose(disk: &SimDisk, effort: &Effort, seed: u64) -> Choice {
    for grain in [Grain::Sector, Grain::Page, Grain::Call] {
        let images = disk.images(grain);
        if images.count_images() <= effort.enumerate {
            return Choice::All(grain, images);
        }
    }
    Choice::Some(seed, effort.samples)
}

impl Choice {
    pub(crate) fn images(&self) -> Box<dyn Iterator<Item = Image> + '_> {
        match self {
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
                let extremes = [Image::Oldest, Image::Newest, Image::Garbage(seed as u32)];
                let lots = (0..*samples).map(move |n| Image::Sample(mix(seed, n.into()) as u32));
                Box::new(extremes.into_iter().chain(lots))
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
