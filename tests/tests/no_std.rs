//! Builds and runs the program without std in `no-std/`.

use std::path::Path;
use std::process::Command;

use domstat_tests::skip::skip;

#[test]
fn layout_works_without_std_and_without_an_allocator() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-std");
    let target = dir.join("target");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(&dir)
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "the program does not build");
    let status = Command::new(target.join("debug/domstat-no-std")).status().unwrap();
    assert_eq!(status.code(), Some(0), "the step with this number failed");
}

/// A kernel's target, without vector registers: those are the interrupted task's there.
const KERNEL: &str = "x86_64-unknown-none";

#[test]
fn layout_uses_no_vector_register_where_the_target_has_none() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-std");
    let target = dir.join("target");
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", KERNEL])
        .current_dir(&dir)
        .output()
        .unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    if !Path::new(libraries.trim()).exists() {
        return skip("no-std-target", "rustup has not installed x86_64-unknown-none");
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--lib", "--target", KERNEL])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&dir)
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "the library does not build");
    let built = target.join(KERNEL).join("release/libdomstat_no_std.rlib");
    let dump = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(built).output();
    let code = String::from_utf8(dump.unwrap().stdout).unwrap();
    // The code of the layout crate is there: its functions are generic or inlined.
    assert!(code.contains("<domstat_no_std>:") && code.lines().count() > 300, "{code}");
    let vectors: Vec<_> = code
        .lines()
        .filter(|line| ["%xmm", "%ymm", "%zmm"].iter().any(|register| line.contains(register)))
        .collect();
    assert!(vectors.is_empty(), "{} instructions, such as{}", vectors.len(), vectors[0]);
}
