//! The reader in C: its check of headers agrees with `Geometry::validate`, and the program of the
//! documentation reads a live region and refuses one that is not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use domstat_layout::header::{ArrayWords, SectionWords};
use domstat_layout::latest::RunState;
use domstat_layout::{Clock, DomHeader, Geometry, Ns, RecordKind};
use domstat_producer::{RegionBuilder, RunstateTracker};
use domstat_tests::skip::skip;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compiles a C program; `None`, and a word about it, where there is no compiler.
fn compile(source: &str, out: &Path) -> Option<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cc::Build::new();
    build.target(&target).host(&target).opt_level(2).cargo_metadata(false).warnings(false);
    let tool = build.try_get_compiler().ok();
    let Some(tool) = tool.filter(|t| t.to_command().arg("--version").output().is_ok()) else {
        skip("cc", "no C compiler");
        return None;
    };
    let program = out.join("program");
    let output = tool
        .to_command()
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("layout/include/domstat"))
        .arg(root().join(source))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

/// Header words, without the ones that only the checker judges: dom_size to nr_vcpus, and from the
/// arch slots on.
const WORDS: [usize; 19] = [1, 2, 3, 4, 5, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28];

/// A header and the length of its mapping: one that is right, with up to three words changed.
fn header(random: &mut fastrand::Rng) -> (u64, [u32; 32]) {
    let mut words = [0; 32];
    words[0] = domstat_layout::DOM_MAGIC;
    words[1..6].copy_from_slice(&[512, 512, 384, 384, 4]); // vcpus end at 2048
    (words[10], words[11], words[13], words[14]) = (7, 8, 4, 1);
    words[15..21].copy_from_slice(&[2048, 64, 384, 64, 4096, 512]);
    words[4] = 448;
    words[15] = 512 + 4 * 448;
    words[21..29].copy_from_slice(&[4608, 640, 640, 2, 5888, 320, 384, 3]);
    let end = 5888 + 3 * 384;
    for _ in 0..random.usize(0..4) {
        let word = &mut words[WORDS[random.usize(0..WORDS.len())]];
        *word = match random.u8(0..6) {
            0 => 0,
            1 => random.u32(..),
            2 => word.wrapping_add(8 * random.u32(0..4)),
            3 => word.wrapping_sub(8 * random.u32(0..4)),
            4 => 8 * random.u32(0..1000),
            _ => word.wrapping_add(random.u32(0..3)),
        };
    }
    let len = match random.u8(0..8) {
        0 => end - random.u64(0..64),
        1 => random.u64(0..end),
        _ => end + random.u64(0..2),
    };
    (len, words)
}

/// What the library says of it, in the words of `tests/c/geometry.c`.
fn judge(len: u64, words: &[u32; 32]) -> String {
    let array = |at: usize| ArrayWords {
        offs: words[at],
        size: words[at + 1],
        stride: words[at + 2],
        nr: words[at + 3],
    };
    let section = |at: usize| SectionWords { offs: words[at], size: words[at + 1] };
    let header = DomHeader {
        magic: words[0],
        dom_size: words[1],
        vcpu: array(2),
        align: words[8],
        incarnation: u64::from(words[10]) | u64::from(words[11]) << 32,
        revision: words[13],
        clock: words[14],
        arch_dom: section(15),
        arch_vcpu: section(17),
        schema: section(19),
        blk: array(21),
        net: array(25),
    };
    let Ok(geometry) = Geometry::validate(&header, usize::try_from(len).unwrap()) else {
        return "refused".to_owned();
    };
    let mut text = format!("{} ", geometry.dom_size());
    for kind in [RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net] {
        let a = geometry.array(kind);
        text += &format!("{} {} {} {} ", a.offs, a.size, a.stride, a.nr);
    }
    let dom = geometry.array(RecordKind::ArchDom);
    for (offs, size) in [
        (dom.offs, dom.size),
        (geometry.arch_vcpu().offs, geometry.arch_vcpu().size),
        (geometry.schema().offs, geometry.schema().size),
    ] {
        text += &format!("{offs} {size} ");
    }
    format!("{text}{} {} {}", header.incarnation, header.revision, header.clock)
}

#[test]
fn headers_are_judged_in_c_as_they_are_in_rust() {
    let out = tempfile::tempdir().unwrap();
    let Some(program) = compile("tests/c/geometry.c", out.path()) else { return };
    let mut random = fastrand::Rng::with_seed(1);
    let headers: Vec<_> = (0..20_000).map(|_| header(&mut random)).collect();
    let input = out.path().join("headers");
    let mut packets = Vec::new();
    for (len, words) in &headers {
        packets.extend(len.to_ne_bytes());
        words.iter().for_each(|word| packets.extend(word.to_ne_bytes()));
    }
    std::fs::write(&input, packets).unwrap();
    let stdin = std::fs::File::open(&input).unwrap();
    let output = Command::new(program).stdin(stdin).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), headers.len());
    let mut refused = 0;
    for ((len, words), line) in headers.iter().zip(text.lines()) {
        let expected = judge(*len, words);
        assert_eq!(line, expected, "{len} bytes, {words:?}");
        refused += usize::from(expected == "refused");
    }
    // Neither side is always right by saying the same of all.
    assert!(refused > 2_000 && headers.len() - refused > 2_000, "{refused} refused");
}

fn read(program: &Path, region: &Path) -> Output {
    Command::new(program).arg(region).arg("1").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_reader_of_the_documentation_reads_what_is_live() {
    let out = tempfile::tempdir().unwrap();
    let Some(program) = compile("layout/examples/read.c", out.path()) else { return };
    let builder = RegionBuilder::new("web1").vcpus(3).clock(Clock::Monotonic);
    let mut created = builder.create_memfd().unwrap();
    let mut tracker = RunstateTracker::new(RunState::Runnable, Ns(100));
    tracker.enter(RunState::Running, Ns(107));
    created.vcpus[1].write(tracker.enter(RunState::Blocked, Ns(150)), Ns(150));
    let region = created.unpublished.publish().unwrap();
    let entry = region.announce(out.path(), "web1").unwrap();
    let output = read(&program, &out.path().join("web1.domstat"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "vCPU 1: ran 43 ns, waited 7 ns\n");
    assert!(output.stderr.is_empty(), "{output:?}");

    let broken = out.path().join("broken");
    std::fs::File::create(&broken).unwrap().write_all(&[0xab; 4096]).unwrap();
    let output = read(&program, &broken);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("not sealed") && error.contains("not a domstat region"), "{error}");
    drop(entry);
    region.retire();
}

#[test]
fn percentiles_in_c_are_those_in_rust() {
    use domstat_layout::Word;
    use domstat_layout::histogram::percentile;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("percentile.c");
    let text = "#include <stdio.h>\n#include \"r5.h\"\n#include \"read.h\"\n\
        int main(void)\n{\n\
            unsigned long long in[40];\n    uint64_t buckets[40], least, most;\n    unsigned thousandths;\n\
            while (scanf(\"%u\", &thousandths) == 1) {\n\
                for (int i = 0; i < 40; i++)\n            if (scanf(\"%llu\", &in[i]) != 1) return 1;\n\
                for (int i = 0; i < 40; i++) buckets[i] = in[i];\n\
                if (domstat_percentile(buckets, 40, thousandths, &least, &most))\n\
                    printf(\"%llu %llu\\n\", (unsigned long long)least, (unsigned long long)most);\n\
                else\n            puts(\"none\");\n    }\n    return 0;\n}\n";
    std::fs::write(&source, text).unwrap();
    let Some(program) = compile(source.to_str().unwrap(), dir.path()) else { return };
    let mut random = fastrand::Rng::with_seed(5);
    let (mut input, mut expected) = (String::new(), String::new());
    for _ in 0..2000 {
        let largest = [1, 3, 1000, u64::MAX / 41, u64::MAX][random.usize(0..5)];
        let mut buckets = [0; 40];
        for _ in 0..random.usize(0..8) {
            buckets[random.usize(0..40)] = random.u64(0..largest);
        }
        let thousandths = random.u32(0..1100);
        let words = buckets.map(|raw: u64| Word::from_raw(raw.to_le()));
        expected += &match percentile(&words, thousandths) {
            Some((least, most)) => format!("{least} {}\n", most.unwrap_or(u64::MAX)),
            None => "none\n".to_owned(),
        };
        let buckets = buckets.map(|n| n.to_string()).join(" ");
        input += &format!("{thousandths} {buckets}\n");
    }
    let child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(expected.contains("none") && expected.lines().count() == 2000);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn the_headers_are_cpp_too() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("headers.cc");
    let headers = ["r5.h", "read.h", "region.h", "shares.h", "block_stats.h"];
    let text: String = headers.iter().map(|name| format!("#include \"{name}\"\n")).collect();
    std::fs::write(&source, text).unwrap();
    let output = std::process::Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(root().join("layout/include/domstat"))
        .arg(&source)
        .output();
    let Ok(output) = output else { return skip("cc", "no C++ compiler") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
