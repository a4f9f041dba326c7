//! Runs of pages, and the limits that everything in a file keeps to.
//!
//! A [`Run`] is only a place: it says neither what lies there nor who owns it.

/// The smallest page size of a store, in bytes.
pub(crate) const MIN_PAGE_SIZE: u32 = 4096;
/// The largest page size of a store, in bytes.
pub(crate) const MAX_PAGE_SIZE: u32 = 65_536;
/// The most pages that a file has, whatever their size. [`max_pages`] is the limit of one file.
pub(crate) const MAX_PAGES: u64 = 1 << 48;
/// The longest a file gets, in bytes: every offset in it fits the signed 64 bits of the systems.
pub(crate) const MAX_FILE_LEN: u64 = 1 << 60;
/// The longest a region gets, in bytes.
pub(crate) const MAX_REGION_LEN: u64 = 1 << 47;
/// The longest name of a region, in bytes of UTF-8.
pub(crate) const MAX_NAME_LEN: usize = 1024;
/// The first page that is not a superblock slot.
pub(crate) const FIRST_PAGE: u64 = 2;

/// The most pages that a file with pages of `page_size` bytes has.
pub(crate) const fn max_pages(page_size: u32) -> u64 {
    let pages = MAX_FILE_LEN / if page_size == 0 { 1 } else { page_size as u64 };
    if pages < MAX_PAGES { pages } else { MAX_PAGES }
}

/// Whether a store may have pages of `page_size` bytes: a power of two inside the limits.
pub(crate) const fn is_page_size(page_size: u32) -> bool {
    page_size.is_power_of_two() && page_size >= MIN_PAGE_SIZE && page_size <= MAX_PAGE_SIZE
}

/// A run of pages of the file. The default is the empty run, which stands for "no extent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first page.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
}

impl Run {
    /// The run, if it is not empty and lies behind the slots and inside the limit of a file with
    /// pages of `page_size` bytes: what every run that was read from a file must pass.
    pub(crate) fn checked(start: u64, pages: u64, page_size: u32) -> Option<Self> {
        let end = start.checked_add(pages)?;
        let inside = pages > 0 && start >= FIRST_PAGE && end <= max_pages(page_size);
        inside.then_some(Self { start, pages })
    }

    /// The first page behind the run.
    pub(crate) const fn end(&self) -> u64 {
        self.start.saturating_add(self.pages)
    }

    /// Whether the run has no pages.
    pub(crate) const fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Whether `page` is one of the run's.
    pub(crate) const fn contains(&self, page: u64) -> bool {
        self.start <= page && page < self.end()
    }

    /// Whether the two runs share a page. An empty run shares none.
    pub(crate) const fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.start < other.end()
            && other.start < self.end()
    }

    /// Where the run starts, in bytes.
    pub(crate) const fn offset(&self, page_size: u32) -> u64 {
        self.start.saturating_mul(page_size as u64)
    }

    /// How many bytes the run has.
    pub(crate) const fn bytes(&self, page_size: u32) -> u64 {
        self.pages.saturating_mul(page_size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn run(start: u64, pages: u64) -> Run {
        Run { start, pages }
    }

    #[test]
    fn limits_keep_byte_offsets_small() {
        assert_eq!(max_pages(MIN_PAGE_SIZE), MAX_PAGES);
        assert_eq!(max_pages(MAX_PAGE_SIZE), 1 << 44);
        for page_size in [4096, 8192, 16_384, 32_768, 65_536] {
            assert!(is_page_size(page_size));
            assert_eq!(run(0, max_pages(page_size)).bytes(page_size), MAX_FILE_LEN);
        }
        for page_size in [0, 1, 512, 2048, 4097, 12_288, 131_072, u32::MAX] {
            assert!(!is_page_size(page_size), "{page_size}");
        }
    }

    #[test]
    fn checked_refuses_what_leaves_the_file() {
        assert_eq!(Run::checked(2, 1, 4096), Some(run(2, 1)));
        assert_eq!(Run::checked(2, MAX_PAGES - 2, 4096), Some(run(2, MAX_PAGES - 2)));
        for (start, pages) in
            [(2, 0), (1, 1), (0, 3), (2, MAX_PAGES - 1), (MAX_PAGES, 1), (u64::MAX, 2)]
        {
            assert_eq!(Run::checked(start, pages, 4096), None, "{start} {pages}");
        }
        assert_eq!(Run::checked(2, max_pages(65_536) - 1, 65_536), None);
    }

    #[test]
    fn places() {
        let a = run(10, 5);
        assert_eq!((a.end(), a.is_empty(), Run::default().is_empty()), (15, false, true));
        assert_eq!((a.offset(4096), a.bytes(4096)), (40_960, 20_480));
        assert!(a.contains(10) && a.contains(14) && !a.contains(9) && !a.contains(15));
        assert!(a.overlaps(&run(14, 1)) && a.overlaps(&run(0, 11)) && a.overlaps(&run(11, 1)));
        assert!(!a.overlaps(&run(15, 1)) && !a.overlaps(&run(0, 10)));
        assert!(!a.overlaps(&run(12, 0)) && !run(12, 0).overlaps(&a));
    }
}
