use std::os::unix::fs::{PermissionsExt, symlink};

use domstat_sources::contract::Armed;
use domstat_sources::control::{Cursor, EventLine};

use super::format::parse;
use super::*;
use crate::control::hub::{Next, tests::taken};

fn armed(threshold_bytes: u64) -> ArmedThresholds {
    let (disk, node) = ("vda".to_owned(), "n".to_owned());
    let armed = vec![Armed { disk, node, threshold_bytes, ..Armed::default() }];
    ArmedThresholds { domain: "a".to_owned(), process: Some((7, 8)), armed }
}

fn opened(path: &Path) -> ArmedFile {
    ArmedFile::open(path.to_owned(), Hub::new())
}

/// All events so far.
fn events(file: &ArmedFile) -> Vec<EventLine> {
    taken(&mut file.hub.subscribe(None, Some(&Cursor { epoch: None, number: 0 })).0)
}

fn unreadable(file: &ArmedFile) -> Vec<(String, Option<String>, Option<u64>)> {
    let told = |line: EventLine| match line.event {
        Event::ThresholdsUnreadable { records, address, .. } => (line.domain, address, records),
        other => panic!("{other:?}"),
    };
    events(file).into_iter().map(told).collect()
}

#[test]
fn what_is_armed_outlives_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.thresholds");
    let (a, b) = (Path::new("/run/a.qmp"), Path::new("/run/b.qmp"));
    let first = opened(&path);
    assert_eq!(first.recall(a), ArmedThresholds::default());
    first.remember(a, &armed(1));
    first.remember(b, &armed(2));
    // What a daemon left that died while it wrote.
    std::fs::write(path.with_extension("thresholds.new"), "{").unwrap();
    let mut intends = armed(3);
    intends.armed[0].intended_bytes = Some(0);
    first.remember(a, &intends);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let second = opened(&path);
    assert_eq!((second.recall(a), second.recall(b)), (intends, armed(2)));
    assert!(events(&second).is_empty());
    second.remember(a, &ArmedThresholds::default());
    assert_eq!(opened(&path).recall(a), ArmedThresholds::default());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn process_ids_of_another_start_of_the_host_are_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let vms = BTreeMap::from([("/a".to_owned(), Kept { thresholds: armed(1), away_since: None })]);
    std::fs::write(&path, to_text("before", &vms)).unwrap();
    assert_eq!(opened(&path).recall(Path::new("/a")).process, Some((0, 0)));
}

/// A file with the thresholds of two VMs, as lines.
fn lines() -> Vec<String> {
    let kept = |n| Kept { thresholds: armed(n), away_since: None };
    let vms = BTreeMap::from([("/a".to_owned(), kept(1)), ("/b".to_owned(), kept(2))]);
    let text = String::from_utf8(to_text("boot", &vms)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_damaged_record_costs_that_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let good = lines();
    let with = |at: usize, line: &str| {
        let mut lines = good.clone();
        line.clone_into(&mut lines[at]);
        std::fs::write(&path, lines.join("\n")).unwrap();
        let file = opened(&path);
        let told = unreadable(&file);
        let of = |vm: &str| file.recall(Path::new(vm)).armed.len();
        (of("/a"), of("/b"), told)
    };
    let (nobody, address) = (String::new, || Some("/a".to_owned()));
    // Nothing is left of it, or its address and domain are.
    assert_eq!(with(1, "{\"addr"), (0, 1, vec![(nobody(), None, Some(1))]));
    let negative = good[1].replace("_bytes\":1", "_bytes\":-1");
    assert_eq!(with(1, &negative), (0, 1, vec![("a".to_owned(), address(), Some(1))]));
    assert_eq!(with(1, &good[1].replace("vda", "\u{1}")), (0, 1, vec![(nobody(), None, Some(1))]));
    // The thresholds are known, their processes are not.
    assert_eq!(with(0, "{}"), (1, 1, vec![(nobody(), None, None)]));
    assert_eq!(opened(&path).recall(Path::new("/b")).process, Some((0, 0)));
    // Repaired with the next change.
    opened(&path).remember(Path::new("/a"), &armed(5));
    assert!(unreadable(&opened(&path)).is_empty());
}

#[test]
fn a_file_that_was_cut_says_how_much_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let whole = lines().join("\n") + "\n";
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let file = opened(&path);
        let known = ["/a", "/b"].iter().filter(|vm| file.recall(Path::new(vm)).process.is_some());
        let known = known.count() as u64;
        let told = unreadable(&file);
        let lost: Option<u64> = told.iter().map(|(.., records)| *records).sum();
        let is_whole = len + 1 == whole.len();
        assert!(lost.is_none_or(|lost| lost + known == 2), "{len}: {told:?}");
        assert_eq!(told.is_empty(), is_whole, "{len}: {told:?}");
    }
}

#[test]
fn a_file_of_the_version_before_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let good = r#"{"process":[7,8],"armed":[{"disk":"vda","node":"n","source":null,"threshold_bytes":1}]}"#;
    let text = format!(r#"{{"version":1,"boot":"b","vms":{{"/a":{good},"/b":{{"process":3}}}}}}"#);
    std::fs::write(&path, text).unwrap();
    let file = opened(&path);
    assert_eq!(file.recall(Path::new("/a")).armed, armed(1).armed);
    assert_eq!(unreadable(&file), [(String::new(), Some("/b".to_owned()), Some(1))]);
}

#[test]
fn what_is_not_such_a_file_is_reported_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let lost = |path: &Path| {
        let told = unreadable(&opened(path));
        assert!(told.iter().all(|(.., records)| records.is_none()), "{told:?}");
        told.len()
    };
    for text in ["", "\0\0", "{}", r#"{"version":3,"boot":"","records":0}"#] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(lost(&path), 1, "{text}");
    }
    let file = opened(&path);
    file.remember(Path::new("/a"), &armed(1));
    assert_eq!(lost(&path), 0);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
    assert_eq!(lost(&path), 1, "others may write it");
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(lost(&link), 1, "a link may lead anywhere");
    assert_eq!(lost(dir.path()), 1);
    // The link is replaced, not what it leads to.
    let before = std::fs::read(&path).unwrap();
    opened(&link).remember(Path::new("/b"), &armed(2));
    assert!(!link.is_symlink());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_file_makes_few_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    std::fs::write(&path, lines()[0].clone() + "\n" + &"x\n".repeat(1000)).unwrap();
    let told = unreadable(&opened(&path));
    assert_eq!(told.len(), MAX_UNREADABLE);
    assert_eq!(told.iter().map(|(.., records)| records.unwrap()).sum::<u64>(), 1000);
}

#[test]
fn thresholds_of_too_many_vms_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = opened(&dir.path().join("t"));
    let address = |n: usize| PathBuf::from(format!("/run/{n}.qmp"));
    {
        let mut state = file.lock();
        let kept = || Kept { thresholds: armed(1), away_since: None };
        state.vms = (0..MAX_VMS).map(|n| (key(&address(n)), kept())).collect();
    }
    assert_eq!(file.check_room(&address(7)), Ok(()));
    let refused = file.check_room(&address(MAX_VMS)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    // One that another client set is kept all the same.
    file.remember(&address(MAX_VMS), &armed(1));
    assert_eq!(file.recall(&address(MAX_VMS)), armed(1));
    file.remember(&address(3), &ArmedThresholds::default());
    file.remember(&address(4), &ArmedThresholds::default());
    assert_eq!(file.check_room(&address(MAX_VMS + 1)), Ok(()));
}

#[test]
fn the_thresholds_of_a_vm_that_does_not_return_are_given_up_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let file = opened(&path);
    let (ended, lives) = (dir.path().join("ended.qmp"), dir.path().join("lives.qmp"));
    let remote = dir.path().join("remote.qmp");
    let start = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    };
    let me = std::process::id();
    let of_me = ArmedThresholds { process: Some((me.cast_signed(), start(me))), ..armed(2) };
    // Its process has ended: the socket that it left means nothing.
    std::fs::write(&ended, "").unwrap();
    file.remember(&ended, &armed(1));
    file.remember(&lives, &of_me);
    // Where no process is known, there is a VM as long as there is a socket.
    std::fs::write(&remote, "").unwrap();
    file.remember(&remote, &ArmedThresholds { process: None, ..armed(3) });
    let nobody = BTreeSet::new();
    let day = KEEP.as_secs();
    file.sweep_at(&nobody, 1000);
    file.sweep_at(&nobody, 1000 + day - 1);
    assert!(events(&file).is_empty());
    // Time passes while no daemon runs, too.
    let file = opened(&path);
    std::fs::remove_file(&remote).unwrap();
    file.sweep_at(&nobody, 1000 + day);
    let lost = |threshold_bytes| {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        Event::ThresholdLost { disk, node, threshold_bytes, reason: LossReason::GivenUp }
    };
    let told = events(&file);
    assert_eq!((told.len(), told[0].domain.as_str()), (1, "a"));
    assert_eq!(told[0].event, lost(1));
    assert!(file.recall(&ended).armed.is_empty());
    // One that is published is there, whatever its socket and process.
    file.sweep_at(&BTreeSet::from([key(&remote)]), 1000 + 2 * day);
    file.sweep_at(&nobody, 1000 + 2 * day);
    // A clock that was set back gives nothing up.
    file.sweep_at(&nobody, 5);
    file.sweep_at(&nobody, 5 + day - 1);
    assert_eq!(events(&file).len(), 1);
    file.sweep_at(&nobody, 5 + day);
    assert_eq!(events(&file).pop().unwrap().event, lost(3));
    assert_eq!(opened(&path).recall(&lives), of_me);
    assert!(matches!(file.hub.subscribe(None, None).0.next(Duration::ZERO), Next::Nothing));
}

#[test]
fn lines_from_anyone_are_read_without_a_panic() {
    let good = lines().join("\n").into_bytes();
    for at in 0..good.len() {
        for byte in [0, b'"', b'\n', b'{', 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let found = parse(&bad);
            assert!(found.vms.len() <= 3);
        }
    }
}
