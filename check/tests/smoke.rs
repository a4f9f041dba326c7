//! A part of the smoke run that a debug build can afford: no violations, and every rare branch was
//! reached.

use allod_check::{Coverage, DIRECTED, Effort, History, Lie, all, quiet_panics, random, run};

/// Runs a history that must be without a violation.
fn clean(history: &History, effort: &Effort) -> Coverage {
    let outcome = run(history, effort);
    if let Some(violation) = outcome.violation {
        panic!("{}\nallod-check replay {}", violation.what, violation.history);
    }
    outcome.coverage
}

#[test]
fn random_histories_are_clean_and_reach_everything() {
    let mut coverage = Coverage::default();
    let effort = Effort { samples: 3, enumerate: 9, ..Effort::default() };
    for seed in 0..150 {
        coverage.add(&clean(&random(seed), &effort));
    }
    assert_eq!(coverage.missing(), Vec::<&str>::new());
    assert!(coverage.states > 30_000, "{coverage}");
}

#[test]
fn short_histories_are_clean() {
    for history in (1..=2).flat_map(all) {
        clean(&history, &Effort { from: history.steps.len() - 1, ..Effort::default() });
    }
}

/// The directed histories; among them, as tests of their own, the shrunk ones of violations that
/// were found while the store was young.
fn directed(name: &str) {
    let directed = DIRECTED.iter().find(|directed| directed.name == name);
    let directed = directed.expect("a directed history of that name");
    for history in directed.histories() {
        clean(&history, &Effort { samples: 8, ..directed.effort() });
    }
}

#[test]
fn every_directed_history_is_clean() {
    for name in DIRECTED.iter().map(|directed| directed.name).filter(|name| !name.contains("stale"))
    {
        directed(name);
    }
}

#[test]
fn a_flush_after_opening_makes_durable_what_was_recovered() {
    directed("flush-after-opening");
}

#[test]
fn a_disk_that_is_full_at_a_slot_costs_nothing() {
    directed("no-room-for-a-slot");
}

#[test]
fn reserved_room_comes_back() {
    directed("room-reserved");
}

#[test]
fn a_poisoned_store_does_not_go_on_compacting() {
    directed("compacted-after-poison");
}

#[test]
fn lying_machines_are_found_out() {
    quiet_panics();
    for lie in [Lie::NoSync, Lie::NoWriteSync, Lie::Neither] {
        let found_out = (0..30).map(random).any(|mut history| {
            history.setting.lie = lie;
            run(&history, &Effort::default()).violation.is_some()
        });
        assert!(found_out, "{lie:?}");
    }
}

#[test]
fn a_violation_comes_with_a_history_that_runs_into_it_at_once() {
    quiet_panics();
    let mut found = None;
    for seed in 0..30 {
        let mut history = random(seed);
        history.setting.lie = Lie::NoSync;
        let outcome = run(&history, &Effort { branch_once_in: 0, ..Effort::default() });
        found = outcome.violation.filter(|violation| violation.image.is_some());
        if found.is_some() {
            break;
        }
    }
    let history = found.expect("a violation on an image").history;
    assert!(run(&history, &Effort::blind()).violation.is_some(), "{history}");
    let fails = |history: &History| run(history, &Effort::blind()).violation.is_some();
    let (short, _) = allod_check::shrink(&history, fails);
    assert!(short.steps.len() <= history.steps.len());
    assert!(fails(&short));
}
