//! What is installed: units, manual pages, completions; and how systemd starts the exporter.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::http::{free_port, get};
use common::made_up::MadeUp;
use common::{Background, domstat, skip, stderr, stdout, wait_for};

fn install(to: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/install.sh");
    // As an administrator whose own files are nobody else's.
    let installed = Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\""])
        .arg(script)
        .env("DESTDIR", to)
        .env("PREFIX", "/usr")
        .env("BINARY", env!("CARGO_BIN_EXE_domstat"))
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", stderr(&installed));
}

#[test]
fn everything_is_in_its_place() {
    let root = tempfile::tempdir().unwrap();
    install(root.path());
    let text = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
    for verb in ["", "-run", "-run-process", "-ls", "-show", "-check", "-top", "-export", "-man"] {
        let page = text(&format!("usr/share/man/man1/domstat{verb}.1"));
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{verb}");
    }
    assert!(text("usr/share/man/man1/domstat-top.1").contains("domstat top \\-b \\-n 1"));
    let bash = "usr/share/bash-completion/completions/domstat";
    let check = Command::new("bash").arg("-n").arg(root.path().join(bash)).status().unwrap();
    assert!(check.success());
    let script = format!(
        "source {}; COMP_WORDS=(domstat ex); COMP_CWORD=1; _domstat domstat ex domstat; \
         echo \"${{COMPREPLY[@]}}\"",
        root.path().join(bash).display()
    );
    let completed = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(stdout(&completed).trim(), "export", "{}", stderr(&completed));
    assert!(
        text("usr/share/fish/vendor_completions.d/domstat.fish").contains("complete -c domstat")
    );
    assert!(text("usr/share/zsh/site-functions/_domstat").starts_with("#compdef domstat"));
    // The group that the units name.
    let socket = text("usr/lib/systemd/system/domstat-process@.socket");
    let group = socket.lines().find_map(|line| line.strip_prefix("SocketGroup=")).unwrap();
    assert!(text("usr/lib/sysusers.d/domstat.conf").contains(&format!("\ng {group} ")));
    let export = text("usr/lib/systemd/system/domstat-export.service");
    assert!(export.contains(&format!("\nSupplementaryGroups={group}\n")));
    for daemon in ["qemu", "xen"] {
        let unit = text(&format!("usr/lib/systemd/system/domstat-{daemon}.service"));
        assert!(unit.contains(&format!("--socket /run/domstat/{daemon}.sock ")), "{unit}");
        assert!(unit.contains(&format!("--socket-mode 660 --socket-group {group} ")), "{unit}");
    }
    everybody_can_read(root.path());
    let len = |path: &Path| std::fs::metadata(path).unwrap().len();
    let whole = len(Path::new(env!("CARGO_BIN_EXE_domstat")));
    assert!(len(&root.path().join("usr/bin/domstat")) < whole, "without symbols");
}

fn everybody_can_read(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o044, 0o044, "{}", entry.path().display());
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode & 0o011, 0o011, "{}", entry.path().display());
            everybody_can_read(&entry.path());
        }
    }
}

#[test]
fn c_programs_find_the_headers() {
    let root = tempfile::tempdir().unwrap();
    install(root.path());
    let flags = Command::new("pkg-config")
        .args(["--cflags", "domstat"])
        .env("PKG_CONFIG_SYSROOT_DIR", root.path())
        .env("PKG_CONFIG_PATH", root.path().join("usr/share/pkgconfig"))
        .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
        .output();
    let Ok(flags) = flags else {
        return skip("cc", "there is no pkg-config");
    };
    assert!(flags.status.success(), "{}", stderr(&flags));
    let program = root.path().join("reader.c");
    let text = "#include <domstat/r5.h>\n#include <domstat/read.h>\nint main(void) { return 0; }\n";
    std::fs::write(&program, text).unwrap();
    let compile = |flags: &str| {
        Command::new("cc")
            .arg("-fsyntax-only")
            .args(flags.split_whitespace())
            .arg(&program)
            .output()
    };
    let Ok(compiled) = compile(&stdout(&flags)) else {
        return skip("cc", "there is no C compiler");
    };
    assert!(compiled.status.success(), "{}", stderr(&compiled));
    assert!(!compile("").unwrap().status.success(), "the flags are needed");
}

#[test]
fn the_units_are_correct_and_hardened() {
    let root = tempfile::tempdir().unwrap();
    install(root.path());
    let units = root.path().join("usr/lib/systemd/system");
    for name in ["domstat-export", "domstat-process@1", "domstat-qemu", "domstat-xen"] {
        // A template is looked at as one of its instances.
        let template = name.replace("@1", "@");
        for kind in ["service", "socket"] {
            let Ok(text) = std::fs::read_to_string(units.join(format!("{template}.{kind}"))) else {
                continue;
            };
            // systemd looks for the program where it runs, not under the root.
            let text = text.replace("/usr/bin/domstat", env!("CARGO_BIN_EXE_domstat"));
            std::fs::write(units.join(format!("{name}.{kind}")), text).unwrap();
        }
        let service = units.join(format!("{name}.service"));
        let analyze =
            |args: &[&str]| Command::new("systemd-analyze").args(args).arg(&service).output().ok();
        let Some(security) = analyze(&["security", "--offline=true", "--threshold=25"]) else {
            return skip("systemd", "there is no systemd-analyze");
        };
        // The threshold is in tenths.
        assert!(security.status.success(), "{name}: {}", stdout(&security));
        let verify = || analyze(&["verify", "--man=no"]).unwrap();
        let verified = verify();
        assert!(verified.status.success(), "{name}: {}", stderr(&verified));
        assert_eq!(stderr(&verified), "", "{name}");
        let text = std::fs::read_to_string(&service).unwrap();
        std::fs::write(&service, text.replace("Type=notify", "Typ=notify")).unwrap();
        assert!(stderr(&verify()).contains("Unknown key 'Typ'"), "{name}: it can fail");
    }
}

#[test]
fn it_says_when_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _export = Background::start(
        domstat(dir.path())
            .args(["export", "--listen", &at.to_string()])
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::null()),
    );
    let mut message = [0; 64];
    let len = socket.recv(&mut message).unwrap();
    assert_eq!(String::from_utf8_lossy(&message[..len]).trim(), "READY=1");
    // From then on it answers.
    assert_eq!(get(at, "/-/healthy", &[]).unwrap().status, 200);
}

#[test]
fn its_socket_can_be_passed() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("systemd-socket-activate");
    command
        .args(["-l", &at.to_string(), "-E"])
        .arg(format!("DOMSTAT_DIR={}", dir.path().display()))
        .args([env!("CARGO_BIN_EXE_domstat"), "export"])
        .stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        return skip("systemd", "there is no systemd-socket-activate");
    };
    let _export = Background(child);
    let answer = wait_for("an answer", || get(at, "/metrics", &[]).ok());
    assert!(answer.body.contains("domstat_up{domain=\"web1\""), "{}", answer.body);
}

/// What the exporter says of a domain when it runs as nobody with these capabilities.
fn as_nobody(dir: &Path, capabilities: &[&str]) -> Option<String> {
    let program = dir.join("domstat");
    common::copy_program(&program);
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let set = capabilities.iter().fold("-all".to_owned(), |set, c| format!("{set},+{c}"));
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
        .args([format!("--inh-caps={set}"), format!("--bounding-set={set}")])
        .arg(format!("--ambient-caps={set}"))
        .arg(program)
        .args(["--dir", dir.to_str().unwrap(), "export", "--listen", &at.to_string()])
        .stderr(Stdio::null());
    let _export = Background(command.spawn().ok()?);
    let text = wait_for("an answer", || get(at, "/metrics", &[]).ok()).body;
    text.lines().find(|line| line.starts_with("domstat_up{")).map(str::to_owned)
}

fn deploy(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_exporters_unit_has_no_capability_and_no_way_into_other_processes() {
    let unit = deploy("systemd/domstat-export.service");
    assert!(unit.lines().any(|line| line == "CapabilityBoundingSet="), "{unit}");
    assert!(!unit.contains("\nAmbientCapabilities="), "{unit}");
    for name in ["export", "qemu", "xen", "process@"] {
        let unit = deploy(&format!("systemd/domstat-{name}.service"));
        for call in ["process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"] {
            let forbids = |line: &str| {
                let calls = line.strip_prefix("SystemCallFilter=~");
                calls.is_some_and(|calls| calls.split(' ').any(|c| c == call))
            };
            assert!(unit.lines().any(forbids), "{name}: {call}");
        }
        for limit in ["\nMemoryMax=", "\nTasksMax="] {
            assert!(unit.contains(limit), "{name}: {limit}");
        }
    }
}

#[test]
fn the_drop_ins_capabilities_are_enough_and_needed() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can give capabilities away");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let drop_in = deploy("systemd/export-entries.conf");
    let given = drop_in.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let given = given.unwrap().to_ascii_lowercase();
    let given: Vec<&str> = given.split(' ').map(|c| c.strip_prefix("cap_").unwrap()).collect();
    let Some(enough) = as_nobody(dir.path(), &given) else {
        return skip("root", "there is no setpriv");
    };
    assert!(enough.ends_with(" 1"), "{enough}");
    for left_out in &given {
        let fewer: Vec<&str> = given.iter().copied().filter(|c| c != left_out).collect();
        let said = as_nobody(dir.path(), &fewer).unwrap();
        assert!(said.ends_with(" 0"), "without {left_out}: {said}");
    }
}
