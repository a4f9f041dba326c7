//! File systems that are mounted for as long as a value lives, where the system permits it.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A file system that is mounted for as long as the value lives.
#[derive(Debug)]
pub struct Mount {
    place: TempDir,
    /// What holds the image, if there is one. Dropped after the file system is unmounted.
    _image: Option<TempDir>,
}

impl Mount {
    /// A file system in memory.
    ///
    /// # Errors
    ///
    /// Why it is not to be had here.
    pub fn memory(bytes: u64) -> Result<Self, String> {
        Self::new(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"], None)
    }

    /// A file system of the kind ext4 in a file.
    ///
    /// # Errors
    ///
    /// Why it is not to be had here.
    pub fn ext4(bytes: u64) -> Result<Self, String> {
        let holder = TempDir::new().map_err(|error| error.to_string())?;
        let image = holder.path().join("image");
        let made = File::create(&image).and_then(|file| file.set_len(bytes));
        made.map_err(|error| error.to_string())?;
        let mut format = Command::new("mkfs.ext4");
        // No room set aside, no journal: all of it can be had, and nothing else takes of it.
        format.args(["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal"]).arg(&image);
        run(&mut format)?;
        let image = image.to_str().ok_or("the path is not UTF-8")?;
        Self::new(["-t", "ext4", "-o", "loop", image], Some(holder))
    }

    /// What is at `source` once more, where it cannot be written.
    ///
    /// # Errors
    ///
    /// Why it is not to be had here.
    pub fn read_only(source: &Path) -> Result<Self, String> {
        let source = source.to_str().ok_or("the path is not UTF-8")?;
        let mount = Self::new(["--bind", source], None)?;
        let mut again = Command::new("mount");
        run(again.args(["-o", "remount,bind,ro"]).arg(mount.path()))?;
        Ok(mount)
    }

    fn new<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
        image: Option<TempDir>,
    ) -> Result<Self, String> {
        let place = TempDir::new().map_err(|error| error.to_string())?;
        run(Command::new("mount").args(arguments).arg(place.path()))?;
        Ok(Self { place, _image: image })
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that another test starts may for a moment have copies of open files.
        if let Err(error) = run(Command::new("umount").arg("-l").arg(self.place.path())) {
            eprintln!("{error}");
        }
    }
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}
