//! The program around the checker.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use allod_check::{Coverage, Effort, History, Lie, Violation, quiet_panics, random, run, shrink};

fn main() -> ExitCode {
    quiet_panics();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["random", from, seconds] => {
            let from = from.parse().unwrap_or(0);
            let seconds = seconds.parse().unwrap_or(10);
            search(from, Duration::from_secs(seconds))
        }
        #[cfg(feature = "mutants")]
        ["mutants", limit] => {
            use allod_core::mutant::{Mutant, activate};
            let limit = limit.parse().unwrap_or(500);
            let (mut caught, mut all) = (0, 0);
            for mutant in Mutant::ALL {
                activate(Some(*mutant));
                let start = Instant::now();
                let hit = (0..limit)
                    .find(|seed| run(&random(*seed), &Effort::default()).violation.is_some());
                all += 1;
                caught += u64::from(hit.is_some());
                println!("{mutant:?}: {hit:?} in {:.1} s", start.elapsed().as_secs_f64());
            }
            activate(None);
            println!("mutants caught {caught} of {all}");
            ExitCode::SUCCESS
        }
        ["lies"] => {
            for lie in [Lie::NoSync, Lie::NoWriteSync, Lie::Neither] {
                let caught = (0..2000).find(|seed| {
                    let mut history = random(*seed);
                    history.setting.lie = lie;
                    run(&history, &Effort::default()).violation.is_some()
                });
                println!("{lie:?}: caught by history {caught:?}");
            }
            ExitCode::SUCCESS
        }
        ["exhaustive", len, effort] => {
            let start = Instant::now();
            let len = len.parse().unwrap_or(3);
            let effort = Effort {
                enumerate: effort.parse().unwrap_or(100),
                from: len as usize - 1,
                ..Effort::default()
            };
            let mut coverage = Coverage::default();
            let mut violations = 0;
            for history in allod_check::all(len) {
                let outcome = run(&history, &effort);
                coverage.add(&outcome.coverage);
                if let Some(violation) = outcome.violation {
                    violations += 1;
                    println!("{history}");
                    tell(0, &violation);
                    if violations > 3 {
                        break;
                    }
                }
            }
            println!("{coverage}");
            println!(
                "{:.0} states a second",
                coverage.states as f64 / start.elapsed().as_secs_f64()
            );
            println!("{violations}");
            ExitCode::SUCCESS
        }
        ["replay", seed] if seed.parse::<u64>().is_ok() => {
            let history = random(seed.parse().unwrap_or(0));
            replay(&history, &Effort::default())
        }
        ["replay", text] => match text.parse::<History>() {
            Ok(history) => replay(&history, &Effort::close()),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: allod-check smoke | long --seconds N | replay SEED");
            ExitCode::FAILURE
        }
    }
}

fn search(from: u64, limit: Duration) -> ExitCode {
    let start = Instant::now();
    let mut coverage = Coverage::default();
    let mut violations = 0;
    let mut seed = from;
    while start.elapsed() < limit {
        let outcome = run(&random(seed), &Effort::default());
        coverage.add(&outcome.coverage);
        if let Some(violation) = outcome.violation {
            violations += 1;
            tell(seed, &violation);
            if violations >= 3 {
                break;
            }
        }
        seed += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{coverage}");
    println!("{:.0} states a second", coverage.states as f64 / seconds);
    let (states, histories) = (coverage.states, coverage.histories);
    println!("states {states}, histories {histories}, violations {violations}");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(seed: u64, violation: &Violation) {
    println!("VIOLATION seed {seed} step {}: {}", violation.step, violation.what);
    if let Some((call, operation)) = &violation.call {
        println!("  at call {call} ({operation}), image {:?}", violation.image);
    }
    println!("  steps {}", violation.history.steps.len());
    let blind = Effort::blind();
    let direct = run(&violation.history, &blind).violation.is_some();
    let effort = if direct { blind } else { Effort::close() };
    let (short, tried) =
        shrink(&violation.history, |history| run(history, &effort).violation.is_some());
    println!("  shrunk (direct {direct}, {tried} tried): {short}");
    if let Some(violation) = run(&short, &effort).violation {
        println!("  says at step {}: {}", violation.step, violation.what);
        if let Some((call, operation)) = &violation.call {
            println!("  at call {call} ({operation}), image {:?}", violation.image);
        }
    }
}

fn replay(history: &History, effort: &Effort) -> ExitCode {
    println!("{history}");
    let outcome = run(history, effort);
    println!("{}", outcome.coverage);
    match outcome.violation {
        Some(violation) => {
            tell(history.seed, &violation);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
