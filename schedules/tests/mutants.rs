//! A store without the consistent cut must be caught by the schedules that test it. A test of its
//! own, because a mutant is active for the whole process.

use allod_core::Options;
use allod_core::mutant::{self, Mutant};
use allod_schedules::ScheduledMem;
use shuttle::thread;

#[test]
fn a_cut_that_mixes_epochs_is_caught() {
    mutant::activate(Some(Mutant::MixedCut));
    let caught = std::panic::catch_unwind(|| {
        let random = shuttle::scheduler::RandomScheduler::new(20_000);
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config.failure_persistence = shuttle::FailurePersistence::None;
        shuttle::Runner::new(random, config).run(|| {
            let platform = ScheduledMem::new();
            let options = Options::new().journal_size(64 << 10);
            let store = std::sync::Arc::new(options.open(platform.clone()).expect("a new store"));
            // `b` stands before `a` on the dirty list, so that the flush comes to `b` first.
            let b = store.create_region("b").expect("creating");
            let a = store.create_region("a").expect("creating");
            let writer = thread::spawn(move || {
                for i in 0..3u8 {
                    b.append(&[i]).expect("appending");
                    a.append(&[i]).expect("appending");
                }
            });
            store.flush().expect("flushing");
            let image = options.read_only(true).open(platform.snapshot()).expect("an image");
            let len = |name| image.region(name).map_or(0, |region| region.len().expect("there"));
            assert!(len("b") >= len("a"), "a has {}, b has {}", len("a"), len("b"));
            writer.join().expect("the writer");
        });
    });
    assert!(caught.is_err(), "the mutant survived 20,000 schedules");
}
