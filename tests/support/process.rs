//! Test binaries run again as other processes, which tell what they do line by line.
//!
//! A child is one test of the binary, chosen by name, with an argument in the environment; without
//! the argument such a test does nothing.

use std::ffi::{OsStr, OsString};
use std::io::BufRead;
use std::process::Command;

use super::Ledger;

const CHILD: &str = "ALLOD_TEST_CHILD";

/// The command that runs a test of this binary in another process, below `wrapper` (a program and
/// its arguments) if that is not empty.
pub fn child(wrapper: &[&OsStr], test: &str, argument: impl AsRef<OsStr>) -> Command {
    let this = std::env::current_exe().expect("the test binary has a path");
    let mut words = wrapper.iter().map(OsString::from).chain([OsString::from(this)]);
    let mut command = Command::new(words.next().expect("one at least"));
    command.args(words);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, argument);
    command
}

/// The argument, in the process that [`child`] describes.
pub fn child_argument() -> Option<OsString> {
    std::env::var_os(CHILD)
}

/// What a child tells: each line is a word, and a number for the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The child has opened the store in this state.
    Opened(u64),
    /// A flush to this state begins.
    Begin(u64),
    /// A flush to this state has returned.
    Acknowledged(u64),
    /// The child has come to its end.
    End,
}

impl Report {
    /// Tells it. One call of the system, so that no death of the process leaves a part of a line
    /// that looks like another one.
    pub fn tell(self) {
        let (word, state) = match self {
            Self::Opened(state) => ("allod-opened", state),
            Self::Begin(state) => ("allod-begin", state),
            Self::Acknowledged(state) => ("allod-acknowledged", state),
            Self::End => ("allod-end", 0),
        };
        // The test harness may have begun a line.
        println!("\n{word} {state:016x}.");
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, state) = line.trim_end().strip_suffix('.')?.split_once(' ')?;
        let state = u64::from_str_radix(state, 16).ok()?;
        match word {
            "allod-opened" => Some(Self::Opened(state)),
            "allod-begin" => Some(Self::Begin(state)),
            "allod-acknowledged" => Some(Self::Acknowledged(state)),
            "allod-end" => Some(Self::End),
            _ => None,
        }
    }

    /// Reads what a child tells, until `each` answers that it is enough, or the child has ended.
    /// Everything is entered into the ledger.
    pub fn follow(output: impl BufRead, ledger: &mut Ledger, mut each: impl FnMut(Self) -> bool) {
        for line in output.split(b'\n') {
            let line = line.expect("the pipe can be read");
            let Some(report) = Self::parse(&String::from_utf8_lossy(&line)) else { continue };
            match report {
                Self::Opened(found) => ledger.check(found, "the child's opening"),
                Self::Begin(state) => ledger.begin(state),
                Self::Acknowledged(state) => ledger.acknowledge(state),
                Self::End => {}
            }
            if each(report) {
                break;
            }
        }
    }
}

/// Whether this process may mount file systems and the like.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Says that something is not tested here, and why; that is a failure where nothing may be missing.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped {what}, and CI=true: {why}");
}
