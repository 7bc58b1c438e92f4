//! Builds and runs the program without std in `no-std/`.

use std::path::Path;
use std::process::Command;

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
