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
    let said = stdout(&output);
    assert!(said.contains("dom.memory: bit changed: 1 before, 2 now"), "{said}");
    assert!(said.contains("dom.cpu: bit 2 is not its own"), "{said}");
    // Neither a header nor JSON.
    fs::write(&edited, "int x;").unwrap();
    let output = diff(&header(1), &edited);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no DOMSTAT_REVISION"), "{}", stderr(&output));
}

#[test]
fn what_is_shown_can_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=4 {
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
