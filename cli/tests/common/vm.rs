//! A real QEMU with a boot ROM of our own that writes an IDE disk, sector by sector, and counts.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use domstat_sources::qemu::qmp::{Connection, Message, QmpError};
use serde_json::{Value, json};

use super::{Background, wait_for};

pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// How long QEMU may take to answer a test.
const LIMIT: Duration = Duration::from_secs(30);
/// Where the ROM counts the sectors that were written.
const COUNTER: u64 = 0x500;

/// Real-mode code: selects sector after sector of the first IDE disk (65536, then again from the
/// first), writes each from port I/O, waits until it is written, counts it at `COUNTER`, and halts
/// after as many as the four bytes at `SECTORS` say.
const CODE: [u8; 84] = [
    0xfa, 0x66, 0x31, 0xff, 0x66, 0xbe, 0x00, 0x00, 0x00, 0x00, 0x31, 0xdb, 0xba, 0xf7, 0x01, 0xec,
    0xa8, 0x80, 0x75, 0xfb, 0x66, 0x89, 0x3e, 0x00, 0x05, 0x66, 0x39, 0xf7, 0x74, 0x33, 0xba, 0xf2,
    0x01, 0xb0, 0x01, 0xee, 0x42, 0x88, 0xd8, 0xee, 0x42, 0x88, 0xf8, 0xee, 0x42, 0x30, 0xc0, 0xee,
    0x42, 0xb0, 0xe0, 0xee, 0x42, 0xb0, 0x30, 0xee, 0xec, 0xa8, 0x80, 0x75, 0xfb, 0xa8, 0x08, 0x74,
    0xf7, 0xba, 0xf0, 0x01, 0xb9, 0x00, 0x01, 0x89, 0xf8, 0xef, 0xe2, 0xfd, 0x43, 0x66, 0x47, 0xeb,
    0xbb, 0xf4, 0xeb, 0xfd,
];
const SECTORS: usize = 6;

/// A boot ROM that writes this many sectors.
fn rom(sectors: u32) -> Vec<u8> {
    let mut rom = CODE.to_vec();
    let at = SECTORS..SECTORS + 4;
    rom.splice(at, sectors.to_le_bytes());
    // Where the CPU begins: a jump to the start of the ROM.
    rom.resize(0xfff0, 0xf4);
    rom.extend([0xe9, 0x0d, 0x00]);
    rom.resize(64 << 10, 0xf4);
    rom
}

/// A VM with two QMP sockets: one for the daemon, one for the test.
pub(crate) struct Vm {
    pub(crate) process: Background,
    pub(crate) qmp: PathBuf,
    pub(crate) test: Connection,
    /// Events that the test's own connection has brought.
    pub(crate) events: Vec<(String, Value)>,
    dir: PathBuf,
}

impl Vm {
    /// Starts it with a disk of 16 MiB, `hda`, and further arguments.
    pub(crate) fn start(dir: &Path, name: &str, sectors: u32, more: &[&str]) -> Self {
        let at = |ext: &str| dir.join(format!("{name}.{ext}"));
        fs::write(at("rom"), rom(sectors)).unwrap();
        fs::write(at("raw"), vec![0xaa; 16 << 20]).unwrap();
        let socket = |path: &Path| format!("unix:{},server=on,wait=off", path.display());
        let process = Background::start(
            Command::new(QEMU)
                .args(["-accel", "tcg", "-smp", "2", "-m", "16", "-nodefaults", "-display", "none"])
                .args(["-name", &format!("{name},debug-threads=on"), "-bios"])
                .arg(at("rom"))
                .args(["-qmp", &socket(&at("qmp")), "-qmp", &socket(&at("test"))])
                .arg("-drive")
                .arg(format!("if=ide,format=raw,file={}", at("raw").display()))
                .args(more)
                .stdin(Stdio::null()),
        );
        let test = wait_for("QEMU", || Connection::open(&at("test"), LIMIT).ok());
        let dir = dir.to_owned();
        Self { process, qmp: at("qmp"), test, events: Vec::new(), dir }
    }

    /// Asks QEMU itself.
    pub(crate) fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        self.test.execute(command, arguments, LIMIT).unwrap()
    }

    /// As [`Vm::ask`], for what QEMU may refuse.
    pub(crate) fn try_ask(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.test.execute(command, arguments, LIMIT)
    }

    /// The sectors that the guest has counted.
    pub(crate) fn counted(&mut self) -> u64 {
        let file = self.dir.join("counter.bin");
        let arguments = json!({ "val": COUNTER, "size": 4, "filename": file });
        self.ask("pmemsave", &arguments);
        u32::from_le_bytes(fs::read(file).unwrap().try_into().unwrap()).into()
    }

    /// Takes the events that are there; how many of them have this name so far.
    pub(crate) fn count(&mut self, name: &str) -> usize {
        while let Some(message) = self.test.next_message().unwrap() {
            if let Message::Event { name, data } = message {
                self.events.push((name, data));
            }
        }
        self.events.iter().filter(|(n, _)| n == name).count()
    }

    /// A node that takes at most this many bytes a second.
    pub(crate) fn slow_target(&mut self, name: &str, bytes_per_second: u64) {
        let file = self.dir.join(format!("{name}.raw"));
        fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
        let group = format!("{name}-limit");
        let limits = json!({ "bps-write": bytes_per_second });
        self.ask(
            "object-add",
            &json!({ "qom-type": "throttle-group", "id": group, "limits": limits }),
        );
        let below = json!({ "driver": "file", "filename": file });
        self.ask(
            "blockdev-add",
            &json!({ "driver": "throttle", "throttle-group": group, "node-name": name, "file": below }),
        );
    }
}

pub(crate) fn is_there() -> bool {
    Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok()
}
