use std::sync::mpsc::channel;

use super::*;

fn key(tid: i32) -> ThreadKey {
    ThreadKey { tid, start_ticks: 5 }
}

fn looked(times: &mut ThreadTimes, threads: &[(ThreadKey, Role, u64)]) -> ByRole {
    let mut look = times.look();
    for &(key, role, ns) in threads {
        look.thread(key, role, ns);
    }
    look.done(1)
}

#[test]
fn names_show_roles() {
    for (name, role) in [
        ("CPU 0/KVM", Role::Vcpu),
        ("CPU 17/TCG", Role::Vcpu),
        ("fc_vcpu 3", Role::Vcpu),
        ("vcpu12", Role::Vcpu),
        ("IO iothread1", Role::Iothread),
        ("IO mon_iothread", Role::Other),
        ("vhost-4711", Role::Vhost),
        ("worker", Role::Worker),
        ("iou-wrk-4711", Role::Worker),
        ("qemu-system-x86", Role::Other),
        ("vhost-user", Role::Other),
        ("CPU burner", Role::Other),
        ("vcpu", Role::Other),
        ("workers", Role::Other),
        ("", Role::Other),
    ] {
        assert_eq!(Role::of_name(name), role, "{name}");
    }
}

#[test]
fn time_of_threads_that_ended_stays() {
    let mut times = ThreadTimes::default();
    let all = looked(&mut times, &[(key(1), Role::Vcpu, 100), (key(2), Role::Worker, 30)]);
    let of = |all: ByRole, role| {
        let OfRole { ns, threads } = all.of(role);
        (ns.unwrap(), threads.unwrap())
    };
    assert_eq!((of(all, Role::Vcpu), of(all, Role::Worker)), ((100, 1), (30, 1)));
    assert_eq!(of(all, Role::Other), (0, 0));
    let all = looked(&mut times, &[(key(1), Role::Vcpu, 150)]);
    assert_eq!((of(all, Role::Vcpu), of(all, Role::Worker)), ((150, 1), (30, 0)));
    // The id is given to another thread, which has used less.
    let other = ThreadKey { tid: 2, start_ticks: 9 };
    let all = looked(&mut times, &[(other, Role::Worker, 10)]);
    assert_eq!((of(all, Role::Vcpu), of(all, Role::Worker)), ((150, 0), (40, 1)));
}

#[test]
fn a_thread_that_is_renamed_takes_nothing_with_it() {
    let mut times = ThreadTimes::default();
    let _ = looked(&mut times, &[(key(1), Role::Other, 10)]);
    let all = looked(&mut times, &[(key(1), Role::Vcpu, 25)]);
    assert_eq!(all.of(Role::Other), OfRole { ns: Some(10), threads: Some(0) });
    assert_eq!(all.of(Role::Vcpu), OfRole { ns: Some(15), threads: Some(1) });
}

#[test]
fn threads_of_this_process_are_found_by_id_and_by_name() {
    let (keep, waits) = channel::<()>();
    let (up, is_up) = channel();
    let thread = std::thread::Builder::new()
        .name("CPU 77/test".to_owned())
        .spawn(move || {
            up.send(crate::host::thread_id()).unwrap();
            let _ = waits.recv();
        })
        .unwrap();
    let tid = is_up.recv().unwrap();
    let process = Process::myself().unwrap();
    let mut times = ThreadTimes::default();
    // Other tests have threads with such names, too.
    let is_ours = |name: &str| name == "CPU 77/test";
    let role = |_, name: &str| if is_ours(name) { Role::of_name(name) } else { Role::Other };
    let by_name = times.of_process(&process, role).unwrap();
    assert_eq!(by_name.of(Role::Vcpu).threads, Some(1));
    let by_id = |id, _: &str| if id == tid { Role::Iothread } else { Role::Other };
    let all = times.of_process(&process, by_id).unwrap();
    assert_eq!(all.of(Role::Iothread).threads, Some(1));
    assert!(all.of(Role::Other).ns.unwrap() > 0, "{all:?}");
    drop(keep);
    thread.join().unwrap();
    let after = times.of_process(&process, by_id).unwrap();
    assert_eq!(after.of(Role::Iothread).threads, Some(0));
    assert!(after.of(Role::Iothread).ns >= all.of(Role::Iothread).ns);
}
