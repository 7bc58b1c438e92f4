//! Several writers of one record, each of its own group; and what retires a region from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use domstat_consumer::{Reading, Region};
use domstat_layout::header::record;
use domstat_layout::latest::{Exits, Runstate, Sched};
use domstat_layout::{Clock, Group, Ns, State, Word};
use domstat_producer::{Created, RegionBuilder};
use domstat_tests::runstate;

fn created() -> Created {
    RegionBuilder::new("groups").vcpus(1).clock(Clock::Monotonic).create_memfd().unwrap()
}

fn attach(region: &domstat_producer::Region) -> Region {
    Region::from_fd(region.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap()
}

fn sched(n: u64) -> Sched {
    let word = Word::from(n);
    Sched { time_ns: word, wait_ns: word, delay_ns: word, timeslices: word }
}

fn exits(n: u64) -> Exits {
    Exits { exits: Word::from(n), halt_exits: Word::from(n), ..Exits::NOT_PRODUCED }
}

#[test]
fn groups_of_one_record_are_switched_on_and_off_by_their_own_writers() {
    let Created { unpublished, mut vcpus, .. } = created();
    let mut vcpu = vcpus.remove(0);
    let mut of_exits = vcpu.take::<Exits>().unwrap();
    let mut of_sched = vcpu.take::<Sched>().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Each changes its own bits all the time; whoever stored the whole word would take back another's.
        let writers = [
            scope.spawn(|| {
                for n in 1..=100_000 {
                    of_exits.write(&exits(n), Ns(n));
                    assert!(region.vcpu(0).unwrap().read::<Exits>().unwrap() != Reading::Inactive);
                    of_exits.deactivate();
                }
                of_exits.set(Exits::io_exits, 7, Ns(7));
            }),
            scope.spawn(|| {
                for n in 1..=100_000 {
                    of_sched.write(&sched(n), Ns(n));
                    assert!(region.vcpu(0).unwrap().read::<Sched>().unwrap() != Reading::Inactive);
                    of_sched.deactivate();
                }
                of_sched.write(&sched(8), Ns(8));
            }),
            scope.spawn(|| {
                for n in 1..=100_000 {
                    vcpu.write(&runstate(n), Ns(n));
                    assert!(
                        region.vcpu(0).unwrap().read::<Runstate>().unwrap() != Reading::Inactive
                    );
                    vcpu.deactivate::<Runstate>();
                }
            }),
        ];
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(Reading::Active(sample)) = region.vcpu(0).unwrap().read::<Sched>() {
                    assert_eq!(sample.group, sched(sample.updated.0));
                }
            }
        });
        let ended = writers.map(|writer| writer.join());
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    // exits, and sched with its twin.
    let active = region.mem().sub(region.geometry().vcpu_offs(), 64).unwrap();
    let active = active.load_u64(record::STATS_ACTIVE).unwrap();
    let mask = |names: &[&str]| {
        let groups = domstat_layout::latest::REV.groups(domstat_layout::RecordKind::Vcpu);
        let named = groups.iter().filter(|group| names.contains(&group.name));
        named.fold(0, |mask, group| mask | group.mask())
    };
    assert_eq!(active, mask(&["exits", "sched", "sched_twin"]));
}

#[test]
fn a_group_has_one_writer_at_a_time() {
    let Created { unpublished, mut vcpus, .. } = created();
    let vcpu = &mut vcpus[0];
    vcpu.write(&exits(1), Ns(1));
    let mut taken = vcpu.take::<Exits>().unwrap();
    assert!(vcpu.take::<Exits>().is_none());
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let read = || region.vcpu(0).unwrap().read::<Exits>().unwrap().active().map(|s| s.group);
    // What was taken is left alone, and goes on from where it was.
    vcpu.write(&exits(2), Ns(2));
    vcpu.set(Exits::exits, 2, Ns(2));
    vcpu.deactivate::<Exits>();
    assert_eq!(read(), Some(exits(1)));
    taken.set(Exits::exits, 3, Ns(3));
    assert_eq!(read(), Some(Exits { exits: Word::from(3), ..exits(1) }));
    // The slot cannot be given to something else meanwhile.
    assert!(!vcpu.renew());
    assert_eq!((vcpu.generation(), read().is_some()), (0, true));
    // One that was dropped, in whichever thread, can be had again.
    thread::spawn(move || drop(taken)).join().unwrap();
    let mut again = vcpu.take::<Exits>().unwrap();
    again.deactivate();
    assert_eq!(read(), None);
    again.write(&exits(4), Ns(4));
    drop(again);
    assert!(vcpu.renew());
    assert_eq!((vcpu.generation(), read()), (1, None));
    vcpu.write(&exits(5), Ns(5));
    assert_eq!(read(), Some(exits(5)));
}

#[test]
fn a_region_is_retired_by_whoever_has_its_retirer() {
    let published = created().unpublished.publish().unwrap();
    let region = attach(&published);
    let retirer = published.retirer();
    let before = region.status();
    assert_eq!(before.state, Some(State::Live));
    thread::spawn(move || retirer.clone().retire()).join().unwrap();
    let after = region.status();
    assert_eq!((after.state, after.notify), (Some(State::Retired), before.notify + 1));
    // As when a process leaves without dropping anything.
    std::mem::forget(published);
}
