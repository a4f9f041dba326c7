//! What a person sees: progress while it runs, and a table with a row for each step.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One row: what a step did, and what the store is like after it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) step: &'static str,
    /// How many regions the step touched.
    pub(crate) touched: u64,
    /// How many bytes it wrote, freed, moved or compared.
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    /// How many regions there are afterwards, and what they take.
    pub(crate) regions: u64,
    pub(crate) usage: Usage,
}

/// What the store takes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The lengths of all regions.
    pub(crate) live: u64,
    /// The length of the file.
    pub(crate) file: u64,
    /// What the file system really gave to it, where it can tell.
    pub(crate) on_disk: Option<u64>,
}

/// Prints a line. A reader who has gone away (`| head`) is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The line above the rows.
pub(crate) fn print_heading() {
    say(&format!(
        "{:<10} {:>8} {:>10} {:>9} {:>11} │ {:>8} {:>10} {:>10} {:>10}",
        "", "regions", "bytes", "time", "rate", "regions", "live", "file", "on disk"
    ));
    say(&format!("{:─<53}┼{:─<42}", "", ""));
}

impl Row {
    /// Prints the row.
    pub(crate) fn print(&self) {
        let seconds = self.time.as_secs_f64();
        // What goes away goes at once; a rate would be of something else.
        let flows = self.bytes > 0 && seconds > 0.0 && self.step != "remove";
        let rate = if flows {
            format!("{}/s", size((self.bytes as f64 / seconds) as u64))
        } else {
            String::new()
        };
        let bytes = if self.bytes > 0 { size(self.bytes) } else { String::new() };
        say(&format!(
            "{:<10} {:>8} {bytes:>10} {:>9} {rate:>11} │ {:>8} {:>10} {:>10} {:>10}",
            self.step,
            grouped(self.touched),
            duration(self.time),
            grouped(self.regions),
            size(self.usage.live),
            size(self.usage.file),
            self.usage.on_disk.map_or_else(|| "?".to_string(), size),
        ));
    }
}

/// A number with a comma every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes, in the unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"");
    for larger in units {
        if value < 999.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

fn duration(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// A bar on the terminal, if standard error is one; nothing if it is not.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// A bar that is full at `total` bytes.
    pub(crate) fn of_bytes(step: &'static str, total: u64) -> Self {
        let template = "{msg:<10} {bar:40} {binary_bytes:>10} of {binary_total_bytes}, {eta} left";
        Self::new(ProgressBar::new(total), step, template)
    }

    /// A bar that is full at `total` regions.
    pub(crate) fn of_regions(step: &'static str, total: u64) -> Self {
        let template = "{msg:<10} {bar:40} {human_pos:>10} of {human_len} regions, {eta} left";
        Self::new(ProgressBar::new(total), step, template)
    }

    fn new(bar: ProgressBar, step: &'static str, template: &str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(step);
        Self { bar, started: Instant::now() }
    }

    /// So much more is done.
    pub(crate) fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// So much is done in all.
    pub(crate) fn reach(&self, at: u64) {
        self.bar.set_position(at);
    }

    /// Takes the bar off the terminal, and answers how long it took.
    pub(crate) fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
