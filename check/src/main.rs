//! The program around the checker. Its last line is always that of [`Totals`].

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use allod_check::{
    DIRECTED, Depth, Effort, History, Lie, Totals, Violation, all, campaign, quiet_panics, random,
    random_campaign, run, shrink,
};
use clap::{Parser, Subcommand};

/// Checks that a store comes back whole from every crash.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Short histories, directed ones, random ones and all mutants: about a minute.
    Smoke,
    /// Random histories that become longer, until the time is over.
    Long {
        /// How long, in seconds.
        #[arg(long)]
        seconds: u64,
        /// In how many threads; all cores if not said.
        #[arg(long)]
        threads: Option<usize>,
        /// The first seed.
        #[arg(long, default_value_t = 1_000_000)]
        from: u64,
        /// Compares names, ids, lengths and places only.
        #[arg(long)]
        metadata: bool,
    },
    /// Stores with one rule dropped each, all of which must be caught.
    #[cfg(feature = "mutants")]
    Mutants {
        /// Only those whose names hold this.
        #[arg(default_value = "")]
        name: String,
        /// How many random histories to try on each.
        #[arg(long, default_value_t = 3000)]
        limit: u64,
        /// How many of them before the directed histories.
        #[arg(long, default_value_t = 100)]
        first: u64,
    },
    /// One history again: of a seed, of a name in the list of directed ones, or from its text.
    Replay {
        /// With this mutant active.
        #[cfg(feature = "mutants")]
        #[arg(long)]
        mutant: Option<String>,
        /// The seed, the name, or the words of the text.
        #[arg(required = true)]
        history: Vec<String>,
    },
}

fn main() -> ExitCode {
    quiet_panics();
    let start = Instant::now();
    let totals = match Cli::parse().command {
        Command::Smoke => smoke(),
        Command::Long { seconds, threads, from, metadata } => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let depth = if metadata { Depth::Metadata } else { Depth::Bytes };
            long(Duration::from_secs(seconds), threads.unwrap_or(cores), from, depth)
        }
        #[cfg(feature = "mutants")]
        Command::Mutants { name, limit, first } => {
            let hunt = allod_check::Hunt { first, limit, ..Default::default() };
            mutants(&hunt, &name)
        }
        #[cfg(feature = "mutants")]
        Command::Replay { history, mutant } => {
            use allod_core::mutant::{Mutant, activate};
            let named = |it: &&Mutant| mutant.as_deref() == Some(&*format!("{it:?}"));
            activate(Mutant::ALL.iter().find(named).copied());
            replay(&history.join(" "))
        }
        #[cfg(not(feature = "mutants"))]
        Command::Replay { history } => replay(&history.join(" ")),
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.1} s, {:.0} states a second", seconds, totals.coverage.states as f64 / seconds);
    println!("{totals}");
    if totals.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many letters the histories have that are tried without exception.
const LETTERS: u32 = 3;
/// How many random histories a smoke run tries.
const HISTORIES: u64 = 600;

fn smoke() -> Totals {
    let mut totals = Totals::default();
    let mut part = |name: &str, part: Totals| {
        println!("{name}: {part}");
        totals.add(&part);
    };
    for directed in DIRECTED {
        let effort = directed.effort();
        part(directed.name, campaign(directed.histories(), |_| effort, |_| false, tell));
    }
    let short = (1..=LETTERS).flat_map(all);
    // The crash points before the last letter are those of a shorter history.
    let last = |history: &History| Effort { from: history.steps.len() - 1, ..Effort::default() };
    part("every short history", campaign(short, last, |_| false, tell));
    let lots = (0..HISTORIES).map(random);
    part("random", campaign(lots, |_| Effort::default(), |_| false, tell));
    part("lying machines", lies());
    println!("reached: {}", totals.coverage);
    let missing = totals.coverage.missing();
    if !missing.is_empty() {
        println!("NEVER REACHED: {}", missing.join(", "));
        totals.violations += 1;
    }
    #[cfg(feature = "mutants")]
    totals.add(&mutants(&allod_check::Hunt::default(), ""));
    totals
}

/// Machines that break their word must be found out, else the checker sees nothing.
fn lies() -> Totals {
    let mut totals = Totals::default();
    for lie in [Lie::NoSync, Lie::NoWriteSync, Lie::Neither] {
        let found_out = (0..100).map(random).any(|mut history| {
            history.setting.lie = lie;
            let outcome = run(&history, &Effort::default());
            totals.coverage.add(&outcome.coverage);
            outcome.violation.is_some()
        });
        if !found_out {
            println!("NOT FOUND OUT: {lie:?}");
            totals.violations += 1;
        }
    }
    totals
}

fn long(time: Duration, threads: usize, from: u64, depth: Depth) -> Totals {
    const PROGRESS: Duration = Duration::from_secs(30);
    let start = Instant::now();
    let told = Mutex::new(Instant::now());
    let effort = Effort { depth, ..Effort::default() };
    let stop = |totals: &Totals| {
        if let Ok(mut told) = told.lock() {
            if told.elapsed() >= PROGRESS {
                *told = Instant::now();
                println!("after {} s: {totals}", start.elapsed().as_secs());
            }
        }
        start.elapsed() >= time
    };
    let totals = random_campaign(threads, from, 2000, &effort, stop, tell);
    println!("reached: {}", totals.coverage);
    totals
}

#[cfg(feature = "mutants")]
fn mutants(hunt: &allod_check::Hunt, name: &str) -> Totals {
    let mut totals = Totals::default();
    for mutant in allod_check::huntable().filter(|mutant| format!("{mutant:?}").contains(name)) {
        let caught = hunt.hunt(mutant, &mut totals.coverage);
        totals.mutants += 1;
        print!("{:4} {mutant:?} ({}): ", mutant.rule(), mutant.what());
        match caught {
            Some(catch) => {
                totals.caught += 1;
                let by = catch.directed.map_or_else(String::new, |name| format!(", by {name}"));
                println!("caught by history {}{by}", catch.histories);
                println!("       {}", catch.violation.what.lines().next().unwrap_or_default());
                match catch.directed {
                    Some(_) => println!("       replay --mutant {mutant:?} {}", catch.history),
                    None => println!("       replay --mutant {mutant:?} {}", catch.history.seed),
                }
            }
            None => println!("ESCAPED"),
        }
    }
    for (mutant, reason) in allod_check::ELSEWHERE {
        println!("{:4} {mutant:?} ({}): not counted: {reason}", mutant.rule(), mutant.what());
    }
    totals
}

fn replay(text: &str) -> Totals {
    let named = DIRECTED.iter().find(|directed| directed.name == text);
    let (histories, effort) = match (named, text.parse::<u64>(), text.parse::<History>()) {
        (Some(directed), ..) => (directed.histories(), directed.effort()),
        (None, Ok(seed), _) => (vec![random(seed)], Effort::default()),
        (None, _, Ok(history)) => (vec![history], Effort::close()),
        (None, _, Err(error)) => {
            println!("neither a seed, nor a name, nor a history: {error}");
            return Totals { violations: 1, ..Totals::default() };
        }
    };
    for history in &histories {
        println!("{history}");
    }
    let totals = campaign(histories, |_| effort, |_| false, tell);
    println!("reached: {}", totals.coverage);
    totals
}

/// Prints a violation, a short history that runs into it, and how to see it again.
fn tell(history: &History, violation: &Violation) {
    let print = |violation: &Violation| {
        println!("  step {}: {}", violation.step, violation.what);
        if let Some((call, operation)) = &violation.call {
            println!("  at call {call} ({operation}), image {:?}", violation.image);
        }
    };
    println!("VIOLATION, seed {}", history.seed);
    print(violation);
    let blind = run(&violation.history, &Effort::blind()).violation.is_some();
    let effort = if blind { Effort::blind() } else { Effort::close() };
    let (short, tried) =
        shrink(&violation.history, |history| run(history, &effort).violation.is_some());
    println!("  the same after {tried} attempts to make it shorter:");
    println!("    allod-check replay {short}");
    if let Some(violation) = run(&short, &effort).violation {
        print(&violation);
    }
}
