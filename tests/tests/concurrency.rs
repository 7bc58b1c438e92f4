//! One writer, several readers: nothing torn, nothing that hangs, nothing taken for another's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use domstat_consumer::{Patience, Reading, Region, Snapshot};
use domstat_layout::latest::Runstate;
use domstat_layout::revision::twin_of;
use domstat_layout::{Group, Ns, Stat, State};
use domstat_producer::{Created, Region as Published, RegionBuilder, VcpuWriter};
use domstat_tests::{assert_whole, runstate};

fn published(nr_vcpus: u32) -> (Published, Vec<VcpuWriter>, Region) {
    let Created { unpublished, vcpus, .. } =
        RegionBuilder::new("threads").vcpus(nr_vcpus).create_memfd().unwrap();
    let region = unpublished.publish().unwrap();
    let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let consumer = Region::from_fd(fd).unwrap();
    (region, vcpus, consumer)
}

#[test]
fn whole_groups_beside_a_writer() {
    let (_region, mut vcpus, consumer) = published(1);
    let mut writer = vcpus.remove(0);
    writer.write(&runstate(1), Ns(1));
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                writer.write(&runstate(n), Ns(n));
                // A group takes about a million updates a second.
                for _ in 0..200 {
                    std::hint::spin_loop();
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut snapshot = Snapshot::new();
                let mut last = 0;
                for i in 0..200_000 {
                    let vcpu = consumer.vcpu(0).unwrap();
                    let reading = if i % 8 == 0 {
                        consumer.snapshot(&mut snapshot);
                        snapshot.vcpu(0).unwrap().vcpu_group::<Runstate>()
                    } else {
                        vcpu.read::<Runstate>()
                    };
                    let Ok(Reading::Active(sample)) = reading else { continue };
                    assert_whole(&sample, sample.updated);
                    let n = sample.running_ns.value().unwrap();
                    assert!(n >= last, "went back from {last} to {n}");
                    last = n;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    assert!(reads.into_inner() > 200_000, "most reads came through");
}

#[test]
fn generations_do_not_mix() {
    // The slot changes hands all the time; each tenant's numbers carry its own mark.
    let (_region, mut vcpus, consumer) = published(1);
    let mut writer = vcpus.remove(0);
    let stop = AtomicBool::new(false);
    let mut active = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut generation = 0u64;
            while !stop.load(Ordering::Relaxed) {
                writer.renew();
                generation += 1;
                writer.write(&runstate(generation), Ns(generation));
                for _ in 0..200 {
                    std::hint::spin_loop();
                }
                if generation.is_multiple_of(3) {
                    writer.deactivate::<Runstate>();
                }
            }
        });
        let vcpu = consumer.vcpu(0).unwrap();
        for _ in 0..50_000_000 {
            if active == 100_000 {
                break;
            }
            if let Ok(Reading::Active(sample)) = vcpu.read::<Runstate>() {
                assert_whole(&sample, sample.updated);
                assert_eq!(sample.running_ns.get(), Stat::Value(u64::from(sample.generation)));
                active += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(active, 100_000, "reads that met a tenant");
}

#[test]
fn a_writer_that_died_in_mid_update_is_reported_and_spoils_nothing_else() {
    let (_region, mut vcpus, _) = published(2);
    for vcpu in &mut vcpus {
        vcpu.write(&runstate(9), Ns(9));
    }
    // The same region as a file, with vCPU 1 as a kill in mid-update leaves it: seq odd.
    let fd = _region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut bytes).unwrap();
    let seq_at = _region.geometry().vcpu_offset(1).unwrap() + 32;
    bytes[seq_at] |= 1;
    let patience = Patience { spins: 10, yielding: Duration::from_millis(2) };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();

    // Its twin is whole, and read instead.
    let consumer = Region::open(file.path()).unwrap().with_patience(patience);
    let vcpu = consumer.vcpu(1).unwrap();
    assert_eq!(vcpu.read::<Runstate>().unwrap().active().unwrap().group, runstate(9));
    assert_eq!(vcpu.stat(Runstate::running_ns).unwrap(), Stat::Value(9));
    let mut snapshot = Snapshot::new();
    consumer.snapshot(&mut snapshot);
    let copied = snapshot.vcpu(1).unwrap().vcpu_group::<Runstate>().unwrap().active().unwrap();
    assert_eq!(copied.group, runstate(9));

    // Of a writer that keeps no twins, nothing is left that is whole.
    let twin_at =
        _region.geometry().vcpu_offset(1).unwrap() + twin_of(Runstate::DESC).unwrap().offset;
    bytes[twin_at] |= 1;
    std::fs::write(file.path(), &bytes).unwrap();
    let consumer = Region::open(file.path()).unwrap().with_patience(patience);
    let error = consumer.vcpu(1).unwrap().read::<Runstate>().unwrap_err();
    let stalled = error.stalled().unwrap();
    assert_eq!((stalled.index, stalled.group), (Some(1), Some("runstate")));
    assert!(stalled.seq & 1 == 1 && stalled.retries >= 10, "{stalled:?}");
    assert!(consumer.vcpu(1).unwrap().stat(Runstate::running_ns).is_err());
    consumer.snapshot(&mut snapshot);
    assert!(snapshot.vcpu(1).unwrap().vcpu_group::<Runstate>().is_err());
    let whole = snapshot.vcpu(0).unwrap().vcpu_group::<Runstate>().unwrap().active().unwrap();
    assert_eq!(whole.group, runstate(9));
}

#[test]
fn one_field_at_a_time() {
    let (_region, mut vcpus, consumer) = published(1);
    let mut writer = vcpus.remove(0);
    let vcpu = consumer.vcpu(0).unwrap();
    assert_eq!(vcpu.stat(Runstate::running_ns).unwrap(), Stat::GroupInactive);
    // A first update of one field publishes the group with the others not produced.
    writer.set(Runstate::running_ns, 5, Ns(1));
    assert_eq!(vcpu.stat(Runstate::running_ns).unwrap(), Stat::Value(5));
    assert_eq!(vcpu.stat(Runstate::blocked_ns).unwrap(), Stat::NotProduced);
    writer.set(Runstate::running_ns, 6, Ns(2));
    writer.set(Runstate::blocked_ns, u64::MAX, Ns(3));
    let sample = vcpu.read::<Runstate>().unwrap().active().unwrap();
    assert_eq!((sample.running_ns.get(), sample.updated), (Stat::Value(6), Ns(3)));
    assert_eq!(sample.blocked_ns.get(), Stat::Saturated);
    writer.deactivate::<Runstate>();
    assert_eq!(vcpu.read::<Runstate>().unwrap(), Reading::Inactive);
    assert_eq!(vcpu.stat(Runstate::running_ns).unwrap(), Stat::GroupInactive);
}

#[test]
fn time_passes_in_the_state_since_the_write() {
    let (_region, mut vcpus, consumer) = published(1);
    let mut blocked = runstate(100);
    blocked.state = 2.into();
    vcpus[0].write(&blocked, Ns(1_000));
    let sample = consumer.vcpu(0).unwrap().read::<Runstate>().unwrap().active().unwrap();
    assert_eq!(sample.at(Ns(1_250)).blocked_ns.get(), Stat::Value(300 + 250));
    assert_eq!(sample.at(Ns(1_250)).running_ns, sample.running_ns);
    assert_eq!(sample.at(Ns(900)), sample.group, "an earlier now changes nothing");
    blocked.state = domstat_layout::Word::NOT_PRODUCED;
    vcpus[0].write(&blocked, Ns(1_000));
    let sample = consumer.vcpu(0).unwrap().read::<Runstate>().unwrap().active().unwrap();
    assert_eq!(sample.at(Ns(2_000)), sample.group, "nobody says in which state time passed");
}

#[test]
fn retiring_is_seen_and_wakes() {
    let (region, _vcpus, consumer) = published(1);
    let before = consumer.status();
    assert_eq!(before.state, Some(State::Live));
    region.retire();
    let after = consumer.status();
    assert_eq!(after.state, Some(State::Retired));
    assert_eq!(after.notify, before.notify + 1);
    assert!(after.same_incarnation);
}
