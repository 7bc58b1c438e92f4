//! A libvirtd with directories of its own, its VMs, and the daemon that observes them.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use domstat_sources::qemu::qmp::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::{Background, domstat, output, skip, stderr, stdout, wait_for};

/// Whether libvirtd has directories of its own; a test without them is skipped.
pub(crate) fn is_private() -> bool {
    let is_private = std::env::var("DOMSTAT_LIBVIRT").as_deref() == Ok("private");
    if !is_private {
        skip("libvirt", "no libvirtd with directories of its own: run ci/libvirt.sh");
    }
    is_private
}

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const SIZE: u64 = 64 << 20;

pub(crate) fn virsh(args: &[&str]) -> Output {
    Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(args).output().unwrap()
}

pub(crate) fn virsh_ok(args: &[&str]) -> String {
    let output = virsh(args);
    assert!(output.status.success(), "virsh {args:?}: {}", stderr(&output));
    stdout(&output)
}

/// libvirtd or virtqemud, and the files of its VMs.
pub(crate) struct Libvirtd {
    process: Option<Background>,
    program: PathBuf,
    dir: PathBuf,
}

impl Libvirtd {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_program(dir, Path::new("/usr/sbin/libvirtd"))
    }

    pub(crate) fn start_program(dir: &Path, program: &Path) -> Self {
        let mut libvirtd = Self { process: None, program: program.to_owned(), dir: dir.to_owned() };
        libvirtd.restart();
        libvirtd
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        let log = fs::File::create(self.dir.join("libvirtd.log")).unwrap();
        let mut command = Command::new(&self.program);
        // Not that of a libvirtd of the host.
        command.arg("--pid-file").arg(self.dir.join("libvirtd.pid"));
        self.process = Some(Background::start(command.stderr(log).stdout(Stdio::null())));
        wait_for("libvirtd", || virsh(&["list"]).status.success().then_some(()));
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process.0), Signal::TERM).unwrap();
            process.0.wait().unwrap();
        }
    }

    /// Creates a VM that halts at once. Its second QMP socket has it write when libvirtd is down.
    pub(crate) fn create(&self, name: &str) -> Guest {
        let at = |ext: &str| self.dir.join(format!("{name}.{ext}"));
        let mut rom = vec![0xf4u8; 64 << 10];
        rom[0xfff0..0xfff3].copy_from_slice(&[0xfa, 0xf4, 0xf4]);
        fs::write(at("rom"), rom).unwrap();
        let disk = |dev: &str, bus: &str| {
            let file = at(&format!("{dev}.raw"));
            fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='raw'/>\
                 <source file='{}'/><target dev='{dev}' bus='{bus}'/></disk>",
                file.display()
            )
        };
        let xml = format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
             <name>{name}</name><title>not published</title><metadata>\
             <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>\
             <nova:name>web</nova:name><nova:owner><nova:project uuid='p1'>acme</nova:project>\
             </nova:owner></nova:instance></metadata>\
             <memory unit='MiB'>16</memory><vcpu>2</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{}</loader></os>\
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{}{}\
             <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>\
             <memballoon model='virtio'/></devices>\
             <qemu:commandline><qemu:arg value='-qmp'/>\
             <qemu:arg value='unix:{},server=on,wait=off'/></qemu:commandline></domain>",
            at("rom").display(),
            disk("vda", "virtio"),
            disk("vdc", "virtio"),
            at("qmp").display(),
        );
        fs::write(at("xml"), xml).unwrap();
        virsh_ok(&["create", at("xml").to_str().unwrap()]);
        let qmp = wait_for("QEMU", || Connection::open(&at("qmp"), LIMIT).ok());
        let pid = fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
        Guest {
            name: name.to_owned(),
            qmp,
            pid: Pid::from_raw(pid.trim().parse().unwrap()).unwrap(),
        }
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        for name in virsh(&["list", "--name"]).stdout.split(|b| *b == b'\n') {
            let _ = virsh(&["destroy", &String::from_utf8_lossy(name)]);
        }
        self.stop();
    }
}

pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) qmp: Connection,
    pub(crate) pid: Pid,
}

impl Guest {
    /// Has the disk write 64 KiB at an offset.
    pub(crate) fn write(&mut self, disk: usize, offset: u64) {
        let device = format!("/machine/peripheral/virtio-disk{disk}/virtio-backend");
        let line = format!("qemu-io -d {device} \"write {offset} 64k\"");
        let arguments = json!({ "command-line": line });
        let said = self.qmp.execute("human-monitor-command", &arguments, LIMIT).unwrap();
        assert!(!said.to_string().contains("rror"), "{said}");
    }
}

/// The daemon, and events as `domstat events` prints them.
pub(crate) struct Daemon {
    pub(crate) process: Background,
    pub(crate) events: PathBuf,
    _subscriber: Background,
}

impl Daemon {
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let said = dir.join("daemon.said");
        let process = Background::start(
            domstat(dir)
                .args(["run", "libvirt", "--interval", "0.2", "--limit", "1"])
                .args(more)
                .stderr(fs::File::create(&said).unwrap()),
        );
        wait_for("the daemon", || {
            fs::read_to_string(&said).unwrap().contains("control socket").then_some(())
        });
        let (events, said) = (dir.join("events.json"), dir.join("events.said"));
        let [to, says] = [&events, &said].map(|path| fs::File::create(path).unwrap());
        let args = ["events", "--json"];
        let subscriber = Background::start(domstat(dir).args(args).stdout(to).stderr(says));
        wait_for("the subscription", || {
            fs::read_to_string(&said).unwrap().contains("waiting for events").then_some(())
        });
        Self { process, events, _subscriber: subscriber }
    }

    pub(crate) fn named(&self, domain: &str, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.events).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        let events = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|e| e["event"] == name && e["domain"] == domain).collect()
    }

    /// Waits for as many events, and a while longer for one too many.
    pub(crate) fn exactly(&self, count: usize, domain: &str, name: &str) -> Vec<Value> {
        wait_for(name, || (self.named(domain, name).len() >= count).then_some(()));
        std::thread::sleep(Duration::from_secs(1));
        let events = self.named(domain, name);
        assert_eq!(events.len(), count, "{events:?}");
        events
    }
}

/// Keys that `virsh domstats` and `domstat show` print.
pub(crate) fn keys(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn arm(dir: &Path, domain: &str, disk: &str, threshold: &str) {
    let armed = output(dir, &["block", "threshold", domain, disk, threshold]);
    assert!(armed.status.success(), "{}", stderr(&armed));
}

/// Writes a program for the reset vector of a VM that writes 512 KiB of its memory all the time.
pub(crate) fn writing_rom(path: &Path) {
    let mut rom = vec![0xf4u8; 64 << 10];
    #[rustfmt::skip]
    let program = [
        0xfc,                   // cld
        0xba, 0x00, 0x10,       // mov dx, 0x1000
        0x8e, 0xc2,             // mov es, dx
        0x31, 0xff,             // xor di, di
        0xb9, 0x00, 0x80,       // mov cx, 0x8000
        0x40,                   // inc ax
        0xf3, 0xab,             // rep stosw
        0x80, 0xc6, 0x10,       // add dh, 0x10
        0x80, 0xfe, 0x90,       // cmp dh, 0x90
        0x72, 0xee,             // jb to mov es
        0xeb, 0xe9,             // jmp to mov dx
    ];
    rom[..program.len()].copy_from_slice(&program);
    // jmp f000:0000
    rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x00, 0x00, 0x00, 0xf0]);
    fs::write(path, rom).unwrap();
}

/// Describes a VM that writes its memory, with two disks, an IOThread and a balloon, of this type
/// (`qemu`, `kvm`) and with this metadata, for `virsh define` and `virsh create`.
pub(crate) fn describe(dir: &Path, kind: &str, name: &str, metadata: &str) -> PathBuf {
    let at = |ext: &str| dir.join(format!("{name}.{ext}"));
    writing_rom(&at("rom"));
    let disk = |dev: &str| {
        let file = at(&format!("{dev}.raw"));
        fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw' iothread='1'/>\
             <source file='{}'/><target dev='{dev}' bus='virtio'/></disk>",
            file.display()
        )
    };
    let xml = format!(
        "<domain type='{kind}'><name>{name}</name><metadata>{metadata}</metadata>\
         <memory unit='MiB'>16</memory><vcpu>2</vcpu><iothreads>1</iothreads>\
         <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{}</loader></os>\
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{}{}\
         <memballoon model='virtio'><stats period='1'/></memballoon></devices></domain>",
        at("rom").display(),
        disk("vda"),
        disk("vdb"),
    );
    fs::write(at("xml"), xml).unwrap();
    at("xml")
}

/// A libvirtd of another host, as far as libvirt can tell, to migrate to.
pub(crate) struct OtherHost {
    process: Background,
    pub(crate) uri: String,
}

impl OtherHost {
    pub(crate) fn start(dir: &Path) -> Self {
        let root = dir.join("other");
        let script = r#"set -e
            for at in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
                mkdir -p "$ROOT$at"
                [ $at != /etc/libvirt ] || cp $at/qemu.conf "$ROOT$at"
                mount --bind "$ROOT$at" $at
            done
            echo 'host_uuid = "11111111-2222-4333-8444-555555555555"' > "$ROOT/libvirtd.conf"
            hostname other
            exec /usr/sbin/libvirtd --config "$ROOT/libvirtd.conf" --pid-file "$ROOT/pid"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-c", &format!("{script}\"")]).env("ROOT", &root);
        let process = Background::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let socket = root.join("run/libvirt/libvirt-sock");
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let list = || Command::new("virsh").args(["-q", "-c", &uri, "list"]).output().unwrap();
        wait_for("the other libvirtd", || list().status.success().then_some(()));
        Self { process, uri }
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        let virsh = |args: &[&str]| {
            Command::new("virsh").args(["-q", "-c", &self.uri]).args(args).output().unwrap()
        };
        for name in virsh(&["list", "--name"]).stdout.split(|b| *b == b'\n') {
            let _ = virsh(&["destroy", &String::from_utf8_lossy(name)]);
        }
    }
}
