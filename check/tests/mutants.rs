//! A sample of the mutants is caught. One test, because a mutant is active in the whole process; the
//! program hunts all of them.
#![cfg(feature = "mutants")]

use allod_check::{Coverage, ELSEWHERE, Hunt, huntable, quiet_panics};
use allod_core::mutant::Mutant;

#[test]
fn a_sample_of_the_mutants_is_caught() {
    quiet_panics();
    assert_eq!(huntable().count() + ELSEWHERE.len(), Mutant::ALL.len());
    let hunt = Hunt { first: 12, limit: 60, ..Hunt::default() };
    let sample = [
        Mutant::PageRewritten,
        Mutant::DataNotSynced,
        Mutant::KernelGap,
        Mutant::NoChecksum,
        Mutant::OneSlot,
        Mutant::ReleasedEarly,
        Mutant::ReleaseIgnoresCut,
        Mutant::OldBytesForgotten,
        Mutant::NotConfirmed,
        Mutant::PutUnderReader,
        Mutant::FirstEntryPartial,
        Mutant::FloorAtPublish,
        Mutant::NothingCarried,
        Mutant::ProofBelieved,
        Mutant::NoFallback,
        Mutant::LeftUnmarked,
    ];
    for mutant in sample {
        let caught = hunt.hunt(mutant, &mut Coverage::default());
        assert!(caught.is_some(), "{mutant:?} escaped");
    }
}
