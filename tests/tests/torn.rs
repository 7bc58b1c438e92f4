//! Torn reads: short runs of `domstat-torn`, one after the other, since each wants two CPUs
//! (`ci/torn.sh` runs long ones), and the same among the threads of one process.
#![allow(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use domstat_tests::skip::skip;

static ALONE: Mutex<()> = Mutex::new(());

/// Runs the hunt; returns what it printed.
fn torn(arguments: &[&str]) -> String {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let output = Command::new(env!("CARGO_BIN_EXE_domstat-torn")).args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{printed}{errors}", output.status);
    printed
}

#[test]
fn no_read_is_torn() {
    let printed = torn(&["--reads", "1000000"]);
    assert!(printed.contains("torn = 0"), "{printed}");
}

#[test]
fn a_hunt_without_the_protocol_finds_torn_reads() {
    let printed = torn(&["--no-check"]);
    assert!(printed.contains("torn, the first within"), "{printed}");
}

#[test]
fn a_killed_writer_leaves_one_twin_whole() {
    let printed = torn(&["--kill", "100"]);
    assert!(printed.contains("both twins lost = 0, torn = 0"), "{printed}");
}

/// The writer in C, compiled; `None` where there is no compiler.
fn writer_in_c(out: &Path) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = out.join("torn");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O2", "-I"]).arg(root.join("../layout/include/domstat"));
    let Ok(output) = command.arg(root.join("c/torn.c")).arg("-o").arg(&program).output() else {
        skip("cc", "no C compiler");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program.to_str()?.to_owned())
}

#[test]
fn no_read_is_torn_beside_a_writer_in_c() {
    let out = tempfile::tempdir().unwrap();
    let Some(program) = writer_in_c(out.path()) else { return };
    let printed = torn(&["--reads", "200000", "--writer", &program]);
    assert!(printed.contains("torn = 0"), "{printed}");
    let printed = torn(&["--kill", "30", "--writer", &program]);
    assert!(printed.contains("both twins lost = 0, torn = 0"), "{printed}");
}

/// Writers and readers at the same addresses, where a tool that watches memory accesses sees both:
/// `ci/tsan.sh`. (Two mappings of one file look like two memories to it.)
mod one_process {
    use std::ptr::NonNull;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use domstat_consumer::{Reading, Region, Snapshot};
    use domstat_layout::latest::Runstate;
    use domstat_layout::{CopyWidth, GroupSpan, Ns, TwinSpans, WriteMem};
    use domstat_producer::{Pages, RegionBuilder};
    use domstat_tests::{assert_whole, runstate};

    const LEN: usize = 4096;
    /// Words of a group's payload: two blocks of the widest form, and a rest.
    const PAYLOAD: usize = 21;
    const SIZE: usize = 16 + PAYLOAD * 8;
    /// Where the groups lie, behind one word of each announcing kind.
    const STATE: usize = 36;
    const SINGLE: usize = 128;
    const FIRST: usize = 512;
    const SECOND: usize = 1024;
    const TWINS: TwinSpans = TwinSpans {
        first: GroupSpan { offset: FIRST, size: SIZE, mask: 0b01 },
        second: Some(GroupSpan { offset: SECOND, size: SIZE, mask: 0b10 }),
    };

    /// Zeroed words that threads share.
    fn words() -> Vec<AtomicU64> {
        (0..LEN / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// The words as shared memory.
    fn mem(words: &[AtomicU64]) -> WriteMem<'_> {
        // SAFETY: the bytes of atomics, which are borrowed for as long as the result lives, may be
        // written through a shared reference, are 8-aligned, and are reached through atomics only.
        unsafe { WriteMem::new(NonNull::from(words).cast(), size_of_val(words)) }
    }

    fn payload(n: u64) -> [u64; PAYLOAD] {
        std::array::from_fn(|index| n.wrapping_mul(2 * index as u64 + 3))
    }

    #[test]
    fn readers_beside_a_writer() {
        let words = words();
        let mem = mem(&words);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Joined in the end: that the scope waits for its threads, the tool does not see.
            let writer = scope.spawn(|| {
                let mut single = mem.group(SINGLE, SIZE).unwrap();
                let mut twins = mem.twins(TWINS).unwrap();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    single.write(n, &payload(n));
                    single.write_word(n, 0, payload(n)[0]);
                    twins.write(n, &payload(n));
                    mem.store_u32(STATE, u32::try_from(n % 3).unwrap()).unwrap();
                    mem.announce().unwrap();
                    for _ in 0..n % 64 {
                        std::hint::spin_loop();
                    }
                }
            });
            let readers = [CopyWidth::WORDS, CopyWidth::widest()].map(|form| {
                scope.spawn(move || {
                    let mem = mem.as_read().with_form(form);
                    let group = |offset| mem.group(offset, SIZE).unwrap();
                    let twins = mem.twins(TWINS).unwrap();
                    let mut last = [0; 2];
                    let mut reads = [0; 2];
                    let mut words = [0; PAYLOAD];
                    for _ in 0..50_000_000 {
                        if reads.iter().all(|reads| *reads >= 50_000) {
                            break;
                        }
                        let found = [
                            group(SINGLE).try_read(&mut words, || ()).map(|(_, n, ())| (n, words)),
                            twins.try_read(&mut words, |_| Some(())).map(|found| {
                                let (_, n, ()) = found.expect("both are active");
                                (n, words)
                            }),
                        ];
                        for (i, found) in found.into_iter().enumerate() {
                            let Ok((n, words)) = found else { continue };
                            assert_eq!(words, payload(n), "torn");
                            assert!(n >= last[i], "went back from {} to {n}", last[i]);
                            (last[i], reads[i]) = (n, reads[i] + 1);
                        }
                        assert!(mem.load_published(STATE).unwrap() < 3);
                    }
                    reads
                })
            });
            for reader in readers {
                let reads = reader.join().unwrap();
                assert!(
                    reads.iter().all(|reads| *reads >= 50_000),
                    "reads that came through: {reads:?}"
                );
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap();
        });
    }

    /// What the reads above would be if they were not atomic. Not part of any other run.
    #[test]
    #[ignore = "a data race on purpose, which ci/tsan.sh must find"]
    fn a_plain_read_is_a_data_race() {
        let words = words();
        let mem = mem(&words);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut single = mem.group(SINGLE, SIZE).unwrap();
                for n in 0..10_000 {
                    single.write(n, &payload(n));
                }
            });
            let word = words[SINGLE / 8 + 2].as_ptr();
            for _ in 0..10_000 {
                // SAFETY: the pointer is valid and aligned. The read races with the writer, and that
                // is what this test is for.
                std::hint::black_box(unsafe { word.read_volatile() });
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn whole_groups_in_pages_of_one_process() {
        let builder = RegionBuilder::new("pages");
        let len = builder.plan().unwrap().total_len();
        let words: Vec<AtomicU64> = (0..len / 8).map(|_| AtomicU64::new(0)).collect();
        let base = NonNull::from(words.as_slice()).cast::<u8>();
        let words = Arc::new(words);
        // SAFETY: the bytes of atomics, which `owner` keeps for as long as the region and its writers
        // live, and which are reached through atomics only.
        let pages = unsafe { Pages::new(base, len) };
        let created = builder.create_in(pages, &[], words.clone()).unwrap();
        let _region = created.unpublished.publish().unwrap();
        let mut writer = created.vcpus.into_iter().next().unwrap();
        writer.write(&runstate(1), Ns(1));
        // SAFETY: as above; `words` outlives the consumer, which is dropped first.
        let consumer = unsafe { Region::from_pages(base, len) }.unwrap();

        let stop = AtomicBool::new(false);
        let reads = thread::scope(|scope| {
            // Joined in the end: that the scope waits for its threads, the tool does not see.
            let writer = scope.spawn(|| {
                let mut n = 1;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    if n % 100 == 0 {
                        writer.renew();
                    }
                    writer.write(&runstate(n), Ns(n));
                    for _ in 0..100 {
                        std::hint::spin_loop();
                    }
                }
            });
            let mut snapshot = Snapshot::new();
            let mut reads = 0;
            for i in 0..20_000 {
                let reading = if i % 2 == 0 {
                    consumer.snapshot(&mut snapshot);
                    snapshot.vcpu(0).unwrap().vcpu_group::<Runstate>()
                } else {
                    consumer.vcpu(0).unwrap().read::<Runstate>()
                };
                if let Ok(Reading::Active(sample)) = reading {
                    assert_whole(&sample, sample.updated);
                    reads += 1;
                }
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap();
            reads
        });
        assert!(reads > 1_000, "reads that came through: {reads}");
    }
}
