//! Layouts compared, shown and checked, as another project's CI would.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{output, skip, stderr, stdout};

fn header(n: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../layout/include/domstat/r{n}.h"))
}

#[test]
fn revisions_only_append_and_an_edited_header_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let diff = |old: &Path, new: &Path| {
        let args = ["abi", "diff", old.to_str().unwrap(), new.to_str().unwrap()];
        output(dir.path(), &args)
    };
    for (old, new) in [(1, 1), (1, 2), (2, 3), (3, 4), (1, 4)] {
        let output = diff(&header(old), &header(new));
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    }
    let backwards = diff(&header(4), &header(1));
    assert_eq!(backwards.status.code(), Some(1));
    assert!(stdout(&backwards).contains("BREAKS blk: removed"), "{}", stdout(&backwards));
    let edited = dir.path().join("edited.h");
    let text = fs::read_to_string(header(2)).unwrap();
    fs::write(&edited, text.replace("MEMORY_BIT 1", "MEMORY_BIT 2")).unwrap();
    let output = diff(&header(1), &edited);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("dom.memory: bit changed: 1 before, 2 now"), "{text}");
    assert!(text.contains("dom.cpu: bit 2 is not its own"), "{text}");
    // Neither a header nor JSON.
    fs::write(&edited, "int x;").unwrap();
    let output = diff(&header(1), &edited);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("does not define DOMSTAT_REVISION"), "{}", stderr(&output));
}

/// Edits that leave every record, group and field where it was.
#[test]
fn edits_outside_of_groups_break_too() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(header(4)).unwrap();
    // Without its compile-time checks, as a header that was written by hand.
    let text: String =
        text.lines().filter(|l| !l.starts_with("typedef")).map(|l| format!("{l}\n")).collect();
    let (old, new) = (dir.path().join("old.h"), dir.path().join("new.h"));
    fs::write(&old, &text).unwrap();
    for (from, to, what) in [
        (
            "uint32_t magic; /* \"DOM",
            "uint32_t cigam; /* \"DOM",
            "BREAKS dom_header.magic: removed",
        ),
        ("uint32_t vcpu_offs;", "uint64_t vcpu_offs;", "BREAKS dom_header.vcpu_offs: resized"),
        ("DOM_MAGIC 0x014d4f44u", "DOM_MAGIC 0x024d4f44u", "BREAKS DOMSTAT_DOM_MAGIC: changed"),
        ("VCPU_MAGIC 0x0150", "VCPU_MAGIC 0x0250", "BREAKS DOMSTAT_VCPU_MAGIC: changed"),
        ("NOT_PRODUCED (~(uint64_t)0)", "NOT_PRODUCED 0", "BREAKS DOMSTAT_NOT_PRODUCED: changed"),
        ("STATE_LIVE 1u", "STATE_LIVE 5u", "BREAKS DOMSTAT_STATE_LIVE: changed: 1 before, 5 now"),
        ("CLOCK_MONOTONIC 1u", "CLOCK_MONOTONIC 2u", "BREAKS DOMSTAT_CLOCK_MONOTONIC: changed"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&new, text.replacen(from, to, 1)).unwrap();
        let args = ["abi", "diff", old.to_str().unwrap(), new.to_str().unwrap()];
        let output = output(dir.path(), &args);
        assert_eq!(output.status.code(), Some(1), "{from}: {}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains(what), "{from}: {}", stdout(&output));
    }
    // One change is one, and a header without comments is one error.
    fs::write(&new, text.replace("CLOCK_XEN 3u", "CLOCK_XEN 4u")).unwrap();
    let args = ["abi", "diff", old.to_str().unwrap(), new.to_str().unwrap()];
    let one = output(dir.path(), &args);
    assert!(stdout(&one).ends_with("\nincompatible: 1 change breaks builds\n"), "{}", stdout(&one));
    let bare: String = text.split("*/").map(|part| part.split("/*").next().unwrap()).collect();
    fs::write(&new, bare).unwrap();
    let bare = output(dir.path(), &args);
    assert_eq!((bare.status.code(), stdout(&bare).as_str()), (Some(3), ""));
    assert!(stderr(&bare).contains("no comment that states"), "{}", stderr(&bare));
}

#[test]
fn structs_of_other_projects_are_compared_by_a_compiler() {
    if !std::process::Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success())
    {
        return skip("cc", "no C compiler");
    }
    let dir = tempfile::tempdir().unwrap();
    let structs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/tests/structs");
    let path = |name: &str| structs.join(name).to_str().unwrap().to_owned();
    let (v1, v2) = (path("disk_counters_v1.h"), path("disk_counters_v2.h"));
    let diff = |args: &[&str]| {
        let mut all = vec!["abi", "diff", "--cc", "cc", "--struct", "disk_counters"];
        all.extend(args);
        output(dir.path(), &all)
    };
    let same = diff(&[&v1, &v1]);
    assert_eq!(same.status.code(), Some(0), "{}{}", stdout(&same), stderr(&same));
    assert_eq!(stdout(&same), "compatible: builds of either read what both know\n");
    assert_eq!(diff(&[&v1, &v2]).status.code(), Some(1));
    let grown = diff(&["--may-grow", "--json", &v1, &v2]);
    assert_eq!(grown.status.code(), Some(0), "{}{}", stdout(&grown), stderr(&grown));
    let grown: serde_json::Value = serde_json::from_slice(&grown.stdout).unwrap();
    assert_eq!(
        (&grown["compatible"], grown["changes"].as_array().unwrap().len()),
        (&true.into(), 3)
    );
    let packed = diff(&["--cflag=-DOTHER", &v1, &path("disk_counters_kernel.h")]);
    assert_eq!(packed.status.code(), Some(1));
    assert!(stdout(&packed).contains("out_of_requests: moved: byte 8 before, byte 4 now"));
    let missing = output(dir.path(), &["abi", "diff", "--struct", "nothing", &v1, &v2]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(stderr(&missing).contains("nothing"), "{}", stderr(&missing));
}

#[test]
fn a_printed_layout_can_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=5 {
        let rev = n.to_string();
        let shown = |how: &str| output(dir.path(), &["abi", "show", "--rev", &rev, how]).stdout;
        assert_eq!(shown("--header"), fs::read(header(n)).unwrap());
        let json = dir.path().join("layout.json");
        fs::write(&json, shown("--json")).unwrap();
        for (old, new) in [(&json, &header(n)), (&header(n), &json)] {
            let args = ["abi", "diff", "--json", old.to_str().unwrap(), new.to_str().unwrap()];
            let found: serde_json::Value =
                serde_json::from_slice(&output(dir.path(), &args).stdout).unwrap();
            assert_eq!(found, serde_json::json!({ "compatible": true, "changes": [] }));
        }
        assert!(String::from_utf8(shown("--svg")).unwrap().ends_with("</svg>\n"));
    }
    let text = stdout(&output(dir.path(), &["abi", "show"]));
    assert!(text.contains("vcpu.runstate_twin.running_ns") && text.contains("net[0].io"), "{text}");
    assert_eq!(output(dir.path(), &["abi", "show", "--rev", "9"]).status.code(), Some(3));
}

#[test]
fn the_installed_compiler_passes() {
    let dir = tempfile::tempdir().unwrap();
    let missing = output(dir.path(), &["abi", "check", "--cc", "/nonexistent/cc"]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(stderr(&missing).contains("/nonexistent/cc"), "{}", stderr(&missing));
    let found = std::process::Command::new("cc").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return skip("cc", "no C compiler");
    }
    let output = output(dir.path(), &["abi", "check", "--cc", "cc"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let pairs = format!("{} pairs", domstat_layout::REVISIONS.len().pow(2) * 2 * 4);
    assert!(stdout(&output).contains(&pairs), "{}", stdout(&output));
    assert!(!stdout(&output).contains(" 0 fields"), "{}", stdout(&output));
    let json = common::output(dir.path(), &["abi", "check", "--cc", "cc", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["pass"], &json["revisions"]),
        (&true.into(), &domstat_layout::REVISIONS.len().into()),
        "{json}"
    );
    assert!(json["fields"].as_u64().unwrap() > 1000 && json["fault"].is_null(), "{json}");
}

/// Compilers whose consumers of one revision do not do what they should.
#[test]
fn a_consumer_that_fails_is_reported() {
    if !std::process::Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success())
    {
        return skip("cc", "no C compiler");
    }
    let dir = tempfile::tempdir().unwrap();
    let cc = dir.path().join("cc");
    for (program, expected) in [
        ("exit 1", "a reader of revision 2 cannot read a region of revision 1"),
        (":", "it prints no value"),
        (
            "echo 'vcpu[0].runstate.running_ns 7'",
            "a reader of revision 2 misreads a region of revision 1",
        ),
    ] {
        let script = format!(
            "#!/bin/sh\ncc \"$@\" || exit\ncase \"$*\" in *consumer-r2*)\n\
             printf '#!/bin/sh\\n%s\\n' \"{program}\" > consumer-r2 ;;\nesac\n"
        );
        fs::write(&cc, script).unwrap();
        fs::set_permissions(&cc, fs::Permissions::from_mode(0o755)).unwrap();
        let output = output(dir.path(), &["abi", "check", "--cc", cc.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains(expected), "{}", stdout(&output));
    }
}
