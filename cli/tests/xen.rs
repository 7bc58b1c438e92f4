//! `run xen` and `xen:DOMID` on a host that is no Xen; on one, ci/xen.sh tries them.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::path::Path;

use common::{output, skip, stderr};

fn fails(args: &[&str], code: i32, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let output = output(dir.path(), args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{args:?}: {line}");
    assert!(expected.iter().all(|part| line.contains(part)), "{args:?}: {line}");
}

#[test]
fn a_host_that_is_no_xen_is_told_so() {
    let nowhere = ["run", "xen", "--dev", "/nonexistent"];
    fails(&nowhere, 3, &["/nonexistent/privcmd", "dom0"]);
    fails(&[&nowhere[..], &["--domid", "1"]].concat(), 3, &["/nonexistent/privcmd", "dom0"]);
    // A device that knows no hypercall: the file is there, the ioctl is not.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("privcmd"), "").unwrap();
    let dev = dir.path().to_str().unwrap();
    fails(&["run", "xen", "--dev", dev], 3, &["cannot list the domains"]);
    if Path::new("/dev/xen/privcmd").exists() {
        skip("no-xen", "there is /dev/xen/privcmd: this is a Xen host");
        return;
    }
    for verb in ["show", "check"] {
        fails(&[verb, "xen:1"], 3, &["xen:1", "dom0", "/dev/xen/privcmd"]);
    }
}

#[test]
fn names_are_for_one_domain() {
    for option in [["--name", "web1"], ["--file", "/tmp/never"]] {
        let args = [&["run", "xen", "--dev", "/nonexistent"][..], &option].concat();
        fails(&args, 2, &["--domid"]);
    }
    // What is no number is a region's name.
    for name in ["xen:", "xen:x", "xen:65536", "xen:-1"] {
        fails(&["show", name], 3, &["does not exist"]);
    }
}
