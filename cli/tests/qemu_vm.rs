//! `domstat run qemu` with a real QEMU whose guest does disk I/O, held against QEMU's own replies
//! and the guest's own counter.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use common::vm::{Vm, is_there};
use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};

/// The daemon of one VM, observing it closely.
fn daemon(dir: &Path, vm: &Vm) -> Background {
    Background::start(
        domstat(dir)
            .args(["run", "qemu", "--interval", "0.1", "--qmp"])
            .arg(&vm.qmp)
            .stderr(Stdio::null()),
    )
}

/// The groups of the disk that is shown under this name.
fn disk(sample: &Value, name: &str) -> Value {
    let blks = sample["blks"].as_array().unwrap();
    let is = |b: &&Value| b["groups"]["identity"]["fields"]["name"] == name;
    blks.iter().find(is).unwrap_or_else(|| panic!("{name} in {sample:#}"))["groups"].clone()
}

/// Events as `domstat events` prints them, in a file.
struct Events {
    process: Background,
    file: std::path::PathBuf,
}

impl Events {
    fn of(dir: &Path, domain: &str) -> Self {
        let (file, said) = (dir.join("events.json"), dir.join("events.said"));
        let [to, says] = [&file, &said].map(|path| std::fs::File::create(path).unwrap());
        let args = ["events", domain, "--json"];
        let process = Background::start(domstat(dir).args(args).stdout(to).stderr(says));
        wait_for("the subscription", || {
            std::fs::read_to_string(&said).unwrap().contains("waiting for events").then_some(())
        });
        Self { process, file }
    }

    fn named(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        let events = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|e| e["event"] == name).collect()
    }
}

#[test]
fn numbers_are_those_of_qemu_and_of_the_guest() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    const SECTORS: u32 = 700;
    let mut vm = Vm::start(dir.path(), "writes", SECTORS, &["-device", "virtio-balloon-pci"]);
    let _daemon = daemon(dir.path(), &vm);
    wait_for("the guest", || (vm.counted() == u64::from(SECTORS)).then_some(()));
    let published = || disk(&show(dir.path(), "writes"), "hda");
    let io = wait_for("its last write", || {
        let io = published()["io"]["fields"].clone();
        (io["wr_req"] == SECTORS).then_some(io)
    });
    assert_eq!(io["wr_bytes"], 512 * u64::from(SECTORS));
    // It halts, so nothing moves any more.
    let stats = &vm.ask("query-blockstats", &Value::Null)[0];
    let same = [
        ("io", "rd_req", &stats["stats"]["rd_operations"]),
        ("io", "wr_req", &stats["stats"]["wr_operations"]),
        ("io", "wr_bytes", &stats["stats"]["wr_bytes"]),
        ("io_times", "wr_total_ns", &stats["stats"]["wr_total_time_ns"]),
        ("io_times", "flush_req", &stats["stats"]["flush_operations"]),
        ("extent", "allocation_bytes", &stats["parent"]["stats"]["wr_highest_offset"]),
    ];
    wait_for("all groups to be as new", || {
        let groups = published();
        let differs =
            same.iter().find(|(group, field, qemu)| groups[group]["fields"][field] != **qemu);
        differs.is_none().then_some(())
    });
    let sample = show(dir.path(), "writes");
    let memory = &sample["groups"]["memory"]["fields"];
    assert_eq!(memory["current_bytes"], vm.ask("query-balloon", &Value::Null)["actual"]);
    assert_eq!(disk(&sample, "hda")["extent"]["fields"]["capacity_bytes"], 16 << 20);
    let keys = stdout(&output(dir.path(), &["show", "writes", "--format", "domstats"]));
    for key in ["state.state=1", "vcpu.current=2", "block.count=1", "block.0.name=hda"] {
        assert!(keys.lines().any(|line| line.trim() == key), "{key} in {keys}");
    }
    assert!(
        keys.contains(&format!("block.0.wr.reqs={SECTORS}\n")) && keys.contains("vcpu.1.delay=")
    );
    assert!(!keys.contains("wait=") && !keys.contains("threshold="), "absent, not 0: {keys}");

    // A pause is an event, and what waits in a paused domain is offline.
    let events = Events::of(dir.path(), "writes");
    vm.ask("stop", &Value::Null);
    wait_for("the pause", || {
        let runstate = show(dir.path(), "writes")["vcpus"][1]["groups"]["runstate"].clone();
        (runstate["fields"]["state"] == "offline").then_some(())
    });
    let told = wait_for("its event", || Some(events.named("state")).filter(|e| !e.is_empty()));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["state"], "paused");

    let checked = output(dir.path(), &["check", "writes", "--watch", "1"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));
}

#[test]
fn a_threshold_fires_once_and_a_dead_vm_is_retired() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "fires", u32::MAX, &[]);
    let mut daemon = daemon(dir.path(), &vm);
    show(dir.path(), "fires");
    let mut events = Events::of(dir.path(), "fires");
    let block = |args: &[&str]| output(dir.path(), &[&["block"], args].concat());

    let waited = block(&["threshold", "fires", "hda", "0.01%", "--wait", "--json"]);
    assert!(waited.status.success(), "{}", stderr(&waited));
    let text = stdout(&waited);
    let event: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    // 0.01 % of 16 MiB, rounded down.
    let (threshold, excess) = (&event["threshold_bytes"], event["excess_bytes"].as_u64().unwrap());
    assert_eq!((threshold, &event["reconciled"]), (&json!(1677), &json!(false)), "{event}");
    wait_for("QEMU's own event", || (vm.count("BLOCK_WRITE_THRESHOLD") == 1).then_some(()));
    let own = vm.events.iter().find(|(name, _)| name == "BLOCK_WRITE_THRESHOLD").unwrap();
    assert_eq!((&own.1["write-threshold"], &own.1["amount-exceeded"]), (threshold, &json!(excess)));
    let extent = disk(&show(dir.path(), "fires"), "hda")["extent"]["fields"].clone();
    assert_eq!(extent["threshold_events"], 1);
    assert_eq!(
        (&extent["threshold_excess_bytes"], &extent["threshold_bytes"]),
        (&json!(excess), &json!(0))
    );

    for (wrong, code) in [("101%", 2), ("17M", 2)] {
        let refused = block(&["threshold", "fires", "hda", wrong]);
        assert_eq!(refused.status.code(), Some(code), "{wrong}: {}", stderr(&refused));
    }
    let source = dir.path().join("fires.raw");
    let by_source = block(&["threshold", "fires", source.to_str().unwrap(), "16M"]);
    assert_eq!(stdout(&by_source), "hda: threshold 16777216 bytes\n", "{}", stderr(&by_source));
    assert!(block(&["threshold", "fires", "hda", "0"]).status.success());
    let nodes = vm.ask("query-named-block-nodes", &Value::Null);
    assert!(nodes.as_array().unwrap().iter().all(|n| n["write_threshold"] == 0), "disarmed");
    assert_eq!(events.named("write_threshold").len(), 1);

    drop(vm);
    wait_for("the end", || (!events.named("gone").is_empty()).then_some(()));
    let listed = stdout(&output(dir.path(), &["ls"]));
    assert!(listed.contains("no domain"), "{listed}");
    assert!(daemon.interrupt().success());
    assert!(!dir.path().join("control.sock").exists());
    let status = events.process.0.wait().unwrap();
    assert_eq!(status.code(), Some(3), "a script can see that no more events will come");
}

#[test]
fn real_jobs_end_as_they_were_asked_to() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "jobs", 1, &[]);
    let _daemon = daemon(dir.path(), &vm);
    show(dir.path(), "jobs");
    let events = Events::of(dir.path(), "jobs");
    let abort = |args: &[&str]| {
        let all = [&["block", "job-abort", "jobs", "hda", "--json"], args].concat();
        let answer = output(dir.path(), &all);
        assert!(answer.status.success(), "{args:?}: {}", stderr(&answer));
        serde_json::from_str::<Value>(&stdout(&answer)).unwrap()
    };
    let none = output(dir.path(), &["block", "job-abort", "jobs", "hda"]);
    assert_eq!(none.status.code(), Some(4));
    assert!(stderr(&none).contains("no block job"), "{}", stderr(&none));

    // A mirror to a slow target: QEMU answers first and the job ends later.
    vm.slow_target("slow", 1 << 20);
    let on =
        |id: &str| json!({ "job-id": id, "device": "ide0-hd0", "target": "slow", "sync": "full" });
    // At most 2 MiB are under way when it is canceled.
    let mirror = |id: &str| {
        let mut arguments = on(id);
        arguments["buf-size"] = json!(2 << 20);
        arguments
    };
    let backup = |id: &str| {
        let mut arguments = on(id);
        arguments["speed"] = json!(1 << 20);
        arguments
    };
    let job = || disk(&show(dir.path(), "jobs"), "hda")["job"]["fields"].clone();
    let running = |vm: &mut Vm| {
        wait_for("progress", || {
            let jobs = vm.ask("query-block-jobs", &Value::Null);
            (jobs[0]["offset"].as_u64()? > 0).then_some(())
        });
        wait_for("the job", || (job()["state"] == "running").then_some(()));
    };
    vm.ask("blockdev-mirror", &mirror("m1"));
    running(&mut vm);
    assert_eq!(job()["kind"], "copy");
    // QEMU says how long it will be some time after it says that it runs.
    wait_for("its length", || (job()["end_bytes"].as_u64()? >= 16 << 20).then_some(()));
    assert_eq!(abort(&[])["outcome"], "canceled");
    assert_eq!(vm.ask("query-block-jobs", &Value::Null), json!([]), "it has really ended");
    wait_for("its record", || (job()["state"] == "canceled").then_some(()));
    assert_eq!(job()["ended"], 1);

    vm.ask("blockdev-mirror", &mirror("m2"));
    running(&mut vm);
    assert_eq!(abort(&["--async"])["accepted"], true);
    let told = wait_for("the event", || Some(events.named("job_ended")).filter(|e| !e.is_empty()));
    assert_eq!((&told[0]["job"], &told[0]["outcome"]), (&json!("m2"), &json!("canceled")));

    // A backup: its event comes before the answer.
    vm.ask("blockdev-backup", &backup("b1"));
    running(&mut vm);
    assert_eq!(abort(&["--async"])["accepted"], true);
    wait_for("its event", || (events.named("job_ended").len() == 2).then_some(()));
    vm.ask("blockdev-backup", &backup("b2"));
    running(&mut vm);
    assert_eq!(abort(&[])["outcome"], "canceled");

    // A paused job refuses, unless it is forced.
    vm.ask("blockdev-mirror", &mirror("m3"));
    running(&mut vm);
    vm.ask("block-job-pause", &json!({ "device": "m3" }));
    let refused = output(dir.path(), &["block", "job-abort", "jobs", "hda"]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("paused"), "{}", stderr(&refused));
    assert_eq!(abort(&["--force"])["outcome"], "canceled");

    // The client that waited has its answer: QEMU said five times that a job was canceled.
    wait_for("QEMU's own events", || (vm.count("BLOCK_JOB_CANCELLED") == 5).then_some(()));
    let told: Vec<Value> = events.named("job_ended").iter().map(|e| e["job"].clone()).collect();
    assert_eq!(told, ["m2", "b1"]);
    assert_eq!(job()["ended"], 5);
}

#[test]
fn a_threshold_that_fires_while_no_daemon_runs_is_reported_once() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "blind", u32::MAX, &[]);
    for (killed, threshold) in [(true, 4096), (false, 8192)] {
        vm.ask("stop", &Value::Null);
        let mut first = daemon(dir.path(), &vm);
        show(dir.path(), "blind");
        let mut events = Events::of(dir.path(), "blind");
        let set =
            output(dir.path(), &["block", "threshold", "blind", "hda", &threshold.to_string()]);
        assert!(set.status.success(), "{}", stderr(&set));
        if killed {
            first.0.kill().unwrap();
            first.0.wait().unwrap();
        } else {
            assert!(first.interrupt().success());
        }
        let code = events.process.0.wait().unwrap().code();
        let said = std::fs::read_to_string(dir.path().join("events.said")).unwrap();
        assert_eq!(code, Some(if killed { 6 } else { 3 }), "{said}");
        assert_eq!(events.named("daemon_ends").len(), usize::from(!killed));
        let cursor = said.lines().find_map(|line| line.split("--from ").nth(1)).unwrap();
        let before = vm.count("BLOCK_WRITE_THRESHOLD");
        vm.ask("cont", &Value::Null);
        wait_for("QEMU's event", || (vm.count("BLOCK_WRITE_THRESHOLD") > before).then_some(()));
        vm.ask("stop", &Value::Null);

        let mut second = daemon(dir.path(), &vm);
        show(dir.path(), "blind");
        let args = ["events", "blind", "--json", "--from", cursor, "--count", "3"];
        let told = stdout(&output(dir.path(), &args));
        let told: Vec<Value> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<_> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["lost", "published", "write_threshold"], "{told:?}");
        assert_eq!(
            (&told[2]["threshold_bytes"], &told[2]["reconciled"]),
            (&json!(threshold), &json!(true))
        );
        assert_ne!(told[2]["epoch"], cursor.split(':').next().unwrap());
        assert!(second.interrupt().success());
        // The third daemon has nothing to add.
        let mut third = daemon(dir.path(), &vm);
        show(dir.path(), "blind");
        let next = format!("{}:0", told[2]["epoch"].as_str().unwrap());
        let args = ["events", "blind", "--json", "--from", &next, "--count", "2"];
        let told = stdout(&output(dir.path(), &args));
        assert!(!told.contains("write_threshold"), "{told}");
        assert!(third.interrupt().success());
    }
}
