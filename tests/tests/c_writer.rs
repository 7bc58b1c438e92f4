//! The writer in C: it makes the same bytes as the one in Rust, takes the same steps in the same
//! orders, and is found and left as a producer in Rust is.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use domstat_consumer::region::MappedFile;
use domstat_consumer::{Region, Sample};
use domstat_invariant_checker::{Options, Subject, check};
use domstat_layout::directory::is_name;
use domstat_layout::header::dom;
use domstat_layout::latest::{Exits, Runstate};
use domstat_layout::schema::{FieldKind, FieldShape, FieldSpec, FieldUnit, GroupSpec};
use domstat_layout::{Clock, Ns, REVISIONS, RecordKind, Stat, State, Word};
use domstat_producer::{Placement, RegionBuilder};
use domstat_tests::golden;
use domstat_tests::skip::skip;

const STRICT: [&str; 6] = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Those of the compilers that are installed.
fn compilers(names: [&'static str; 2]) -> Vec<&'static str> {
    let runs = |name: &&str| {
        let output = Command::new(name).arg("--version").output();
        let runs = output.is_ok_and(|output| output.status.success());
        if !runs {
            skip("cc", &format!("no {name}"));
        }
        runs
    };
    names.into_iter().filter(runs).collect()
}

/// Compiles a source of the workspace without a warning.
fn compile(cc: &str, args: &[&str], source: &str, out: &Path) -> PathBuf {
    let program = out.join("program");
    let mut command = Command::new(cc);
    command.args(STRICT).arg("-I").arg(root().join("layout/include/domstat")).args(args);
    let output = command.arg(root().join(source)).arg("-o").arg(&program).output().unwrap();
    assert!(output.status.success(), "{cc} {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Runs a program with this input; its output.
fn run(program: &Path, args: &[&str], input: Vec<u8>) -> String {
    let child =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program:?} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_headers_are_c11_and_cpp17_without_a_warning() {
    let out = tempfile::tempdir().unwrap();
    let languages = [(["gcc", "clang"], "c11", "c"), (["g++", "clang++"], "c++17", "c++")];
    for (names, standard, language) in languages {
        for cc in compilers(names) {
            for revision in REVISIONS {
                let source = out.path().join("all.c");
                let text = format!(
                    "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n\
                     #include \"r{}.h\"\n#include \"publish.h\"\nint main(void) {{ return 0; }}\n",
                    revision.number
                );
                std::fs::write(&source, text).unwrap();
                let standard = format!("-std={standard}");
                let args = [standard.as_str(), "-x", language];
                compile(cc, &args, source.to_str().unwrap(), out.path());
            }
        }
    }
}

/// A producer of the matrix, which lives until it is dropped.
struct Producer(Child);

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn golden_regions_are_written_byte_for_byte() {
    let out = tempfile::tempdir().unwrap();
    for cc in compilers(["gcc", "clang"]) {
        let mut compiled = (0, PathBuf::new());
        for (name, revision, pages) in golden::all() {
            if compiled.0 != revision.number {
                let header = format!("-DPEER_HEADER=\"r{}.h\"", revision.number);
                let program = compile(cc, &["-std=gnu11", &header], "abi/c/producer.c", out.path());
                compiled = (revision.number, program);
            }
            let program = &compiled.1;
            let file = out.path().join(format!("{cc}-{name}"));
            let shape = if pages { ["pages", "4096"] } else { ["packed", "64"] };
            let child = Command::new(program)
                .arg(&file)
                .args(shape)
                .arg("golden")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let mut producer = Producer(child.unwrap());
            let mut line = String::new();
            BufReader::new(producer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n", "{cc} {name}");
            let frozen = root().join(format!("tests/golden/{name}.bin"));
            let same = std::fs::read(&file).unwrap() == std::fs::read(frozen).unwrap();
            assert!(same, "{cc} {name}");
        }
    }
}

/// The options of a region as `tests/c/region.c` takes them, in its order.
#[derive(Debug)]
struct Wishes([u32; 18]);

const NAMES: [&str; 3] = [
    "web1",
    "ü",
    concat!(
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "01234567890123456789012345ü"
    ),
];

impl Wishes {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut wishes = [0; 18];
        wishes[0] = random.u32(0..3);
        wishes[1] = [0, 1, 1, 2, 3, 7][random.usize(0..6)];
        for wish in &mut wishes[2..6] {
            *wish = random.u32(0..4);
        }
        for i in [6, 7, 8, 9, 13] {
            wishes[i] = random.u32(0..2);
        }
        let odd = [0, 0, 0, 0, 8, 16, 64, 128, 4096, 8192, 24, 4];
        wishes[10] = odd[random.usize(0..odd.len())];
        if random.u8(0..4) == 0 {
            wishes[11] = [2048, 4096, 4104, 512][random.usize(0..4)];
            wishes[12] = [1024, 4096, 1000, 128][random.usize(0..4)];
        }
        for wish in &mut wishes[14..18] {
            *wish = random.u32(0..3);
        }
        Self(wishes)
    }

    /// What the producer makes of them, in the words of `tests/c/region.c`.
    fn made(&self, revision: u32) -> Option<String> {
        let Self([name, vcpus, blks, nets, blk_queues, net_queues, rest @ ..]) = *self;
        let [vcpu_hists, blk_hists, labels, pages, align, offs, stride, no_schema, arch @ ..] =
            rest;
        let shape = |kind, unit, exponent| FieldShape { kind, unit, exponent, ..FieldShape::PLAIN };
        let fields = [
            ("exits", shape(FieldKind::CUMULATIVE, FieldUnit::NONE, 0)),
            ("bytes", shape(FieldKind::INSTANT, FieldUnit::BYTES, 3)),
            ("domid", shape(FieldKind::CUMULATIVE, FieldUnit::SECONDS, -9)),
        ];
        let fields = fields.map(|(name, shape)| FieldSpec { name, shape });
        let groups = [
            GroupSpec { name: "kvm", fields: &fields[..1] },
            GroupSpec { name: "own", fields: &fields },
        ];
        let groups = |nr: u32| &groups[..nr as usize];
        let mut builder = RegionBuilder::new(NAMES[name as usize])
            .clock(Clock::Monotonic)
            .revision(revision)
            .vcpus(vcpus)
            .blks(blks)
            .nets(nets)
            .blk_queues(blk_queues)
            .net_queues(net_queues)
            .vcpu_histograms(vcpu_hists > 0)
            .blk_histograms(blk_hists > 0);
        if labels > 0 {
            builder = builder.labels([("tenant", "acme"), ("project", "web shop")]).unwrap();
        }
        if pages > 0 {
            builder = builder.placement(Placement::PageGranular);
        }
        for (wish, set) in [
            (align, RegionBuilder::align as fn(RegionBuilder, u32) -> RegionBuilder),
            (offs, RegionBuilder::vcpu_offs),
            (stride, RegionBuilder::vcpu_stride),
        ] {
            builder = if wish > 0 { set(builder, wish) } else { builder };
        }
        if no_schema > 0 {
            builder = builder.schema(false);
        }
        let builder = builder.arch_dom(groups(arch[0])).ok()?.arch_vcpu(groups(arch[1])).ok()?;
        let builder = builder.arch_blk(groups(arch[2])).ok()?.arch_net(groups(arch[3])).ok()?;
        let region = builder.create_memfd().ok()?.unpublished.publish().unwrap();
        let mut bytes = Vec::new();
        let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
        std::fs::File::from(fd).read_to_end(&mut bytes).unwrap();
        bytes[dom::INCARNATION..dom::INCARNATION + 8].copy_from_slice(&77u64.to_le_bytes());
        let fnv = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Some(format!("{} {}", bytes.len(), bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv)))
    }
}

#[test]
fn regions_of_any_shape_are_the_same_bytes() {
    let out = tempfile::tempdir().unwrap();
    for cc in compilers(["gcc", "clang"]) {
        for revision in REVISIONS {
            let number = revision.number;
            let header = format!("-DREVISION_HEADER=\"r{number}.h\"");
            let program = compile(cc, &["-std=gnu11", &header], "tests/c/region.c", out.path());
            let mut random = fastrand::Rng::with_seed(u64::from(number));
            let wishes: Vec<Wishes> = (0..400)
                .map(|_| {
                    let mut wishes = Wishes::random(&mut random);
                    // What the revision has not is refused: seldom asked for.
                    let first = [0, 2, 2, 3, 4, 18][number as usize];
                    let absent = |i: &usize| match i {
                        2 => number < 2,
                        3 | 14 | 15 => number < 4,
                        4..=8 | 16 | 17 => number < 5,
                        _ => false,
                    };
                    for i in (first..18).filter(absent).collect::<Vec<_>>() {
                        wishes.0[i] = if random.u8(0..16) == 0 { wishes.0[i] } else { 0 };
                    }
                    wishes
                })
                .collect();
            let line = |w: &Wishes| w.0.map(|n| n.to_string()).join(" ") + "\n";
            let text = run(&program, &[], wishes.iter().map(line).collect::<String>().into());
            assert_eq!(text.lines().count(), wishes.len());
            let mut refused = 0;
            for (wishes, found) in wishes.iter().zip(text.lines()) {
                let made = wishes.made(number);
                refused += usize::from(made.is_none());
                let expected = made.as_deref().unwrap_or("refused");
                assert_eq!(found, expected, "{cc}, revision {number}: {wishes:?}");
            }
            assert!((20..300).contains(&refused), "revision {number}: {refused} refused");
        }
    }
}

#[test]
fn the_steps_are_those_that_the_models_run() {
    let out = tempfile::tempdir().unwrap();
    for cc in compilers(["gcc", "clang"]) {
        let program = compile(cc, &["-std=gnu11"], "tests/c/steps.c", out.path());
        let steps = run(&program, &[], Vec::new());
        let known = std::fs::read_to_string(root().join("layout/tests/c_steps.txt")).unwrap();
        assert_eq!(steps, known, "{cc}: layout/tests/c_steps.txt has what ci/loom.sh checks");
    }
}

/// Waits for the entry of a producer in C, which prints a line when it is there.
fn start(program: &Path, dir: &Path) -> Producer {
    let child = Command::new(program)
        .env("DOMSTAT_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut producer = Producer(child.unwrap());
    let mut line = String::new();
    BufReader::new(producer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("publishing "), "{line}");
    producer
}

fn signal(producer: &Producer, name: &str) {
    let pid = producer.0.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn a_producer_in_c_is_found_passes_the_checks_and_ends() {
    let out = tempfile::tempdir().unwrap();
    for cc in compilers(["gcc", "clang"]) {
        let program = compile(cc, &["-std=gnu11"], "layout/examples/write.c", out.path());
        let entry = out.path().join("hello-c.domstat");
        let mut producer = start(&program, out.path());
        let region = Region::open(&entry).unwrap();
        // Two threads write different groups of one record.
        let until = Instant::now() + Duration::from_secs(30);
        let exits = loop {
            let exits = region.vcpu(1).unwrap().read::<Exits>().unwrap();
            match exits.stat(|exits| exits.exits) {
                Stat::Value(exits) if exits > 3 => break exits,
                other => assert!(Instant::now() < until, "{other:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let runstate = region.vcpu(1).unwrap().read::<Runstate>().unwrap().active().unwrap();
        assert!(runstate.running_ns.value() > Some(exits * 1_000_000), "{runstate:?}");
        assert_eq!(runstate.runnable_ns.get(), Stat::NotProduced);
        let mapped = MappedFile::open(&entry).unwrap();
        let report = check(&Subject::new(mapped.mem()), &Options::default()).unwrap();
        assert!(report.passed(), "{report}");

        // Of two producers of one name, the second is refused.
        let second = Command::new(&program).env("DOMSTAT_DIR", out.path()).output().unwrap();
        let error = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success() && error.contains("of this name"), "{error}");
        assert!(!out.path().join(".lock").exists());

        // One that was killed leaves an entry, which its successor replaces.
        signal(&producer, "KILL");
        producer.0.wait().unwrap();
        assert!(entry.symlink_metadata().is_ok() && !entry.exists());
        let mut producer = start(&program, out.path());
        let region = Region::open(&entry).unwrap();
        signal(&producer, "INT");
        assert!(producer.0.wait().unwrap().success());
        assert!(entry.symlink_metadata().is_err(), "the entry outlives its producer");
        assert_eq!(region.mem().load_u32(dom::STATE), Some(State::Retired as u32));
    }
}

#[test]
fn an_entry_that_would_mislead_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let Some(cc) = compilers(["gcc", "clang"]).first().copied() else { return };
    let program = compile(cc, &["-std=gnu11"], "layout/examples/write.c", out.path());
    // In a namespace of process ids, and with the /proc of another.
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork"];
    if !Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|s| s.success()) {
        return skip("unshare", "no namespace of process ids can be made");
    }
    let mut command = Command::new("unshare");
    let output = command.args(namespaces).arg(&program).env("DOMSTAT_DIR", out.path()).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("would mislead"), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "nothing but the program");
}

#[test]
fn names_are_judged_in_c_as_they_are_in_rust() {
    let out = tempfile::tempdir().unwrap();
    let Some(cc) = compilers(["gcc", "clang"]).first().copied() else { return };
    let program = compile(cc, &["-std=gnu11"], "tests/c/reads.c", out.path());
    let mut random = fastrand::Rng::with_seed(3);
    let (mut input, mut expected, mut good) = (Vec::new(), String::new(), 0);
    for _ in 0..20_000 {
        let mut name: Vec<u8> = (0..random.usize(0..4))
            .flat_map(|_| {
                let mut utf8 = [0; 4];
                let c = match random.u8(0..4) {
                    0 => random.char('\u{1}'..'\u{a5}'),
                    1 => random.char('a'..='z'),
                    2 => random.char('\u{d000}'..'\u{e100}'),
                    _ => random.char('\u{1}'..),
                };
                c.encode_utf8(&mut utf8).as_bytes().to_vec()
            })
            .collect();
        match random.u8(0..6) {
            0 => name.push(random.u8(1..)),
            1 => name.insert(0, random.u8(1..)),
            2 if !name.is_empty() => drop(name.pop()),
            3 => name.extend(vec![b'n'; random.usize(110..135)]),
            _ => {}
        }
        let is_good = str::from_utf8(&name).is_ok_and(is_name);
        good += u32::from(is_good);
        expected += if is_good { "1\n" } else { "0\n" };
        input.push(u8::try_from(name.len()).unwrap());
        input.extend(name);
    }
    assert!((2_000..18_000).contains(&good), "{good} good names");
    assert_eq!(run(&program, &["names"], input), expected);
}

#[test]
fn runstates_are_brought_up_to_date_in_c_as_they_are_in_rust() {
    let out = tempfile::tempdir().unwrap();
    let Some(cc) = compilers(["gcc", "clang"]).first().copied() else { return };
    let program = compile(cc, &["-std=gnu11"], "tests/c/reads.c", out.path());
    let mut random = fastrand::Rng::with_seed(4);
    let (mut input, mut expected, mut changed) = (Vec::new(), String::new(), 0);
    for _ in 0..5_000 {
        let mut word = || match random.u8(0..8) {
            0 => u64::MAX,
            1 => u64::MAX - random.u64(1..4),
            2 => random.u64(..),
            _ => random.u64(0..6),
        };
        let (now, raw) = (word(), [(); 7].map(|()| word()));
        for word in [&[now, 0], &raw[..]].concat() {
            input.extend(word.to_ne_bytes());
        }
        let [updated, state, state_entry_ns, running_ns, runnable_ns, blocked_ns, offline_ns] =
            raw.map(|raw| Word::from_raw(raw.to_le()));
        let group =
            Runstate { state, state_entry_ns, running_ns, runnable_ns, blocked_ns, offline_ns };
        let updated = Ns(u64::from_le(updated.to_raw()));
        let at = Sample { group, updated, seq: 2, generation: 0 }.at(Ns(now));
        let times = [at.running_ns, at.runnable_ns, at.blocked_ns, at.offline_ns];
        changed += u32::from(at != group);
        expected += &(times.map(|time| u64::from_le(time.to_raw()).to_string()).join(" ") + "\n");
    }
    assert!(changed > 500, "{changed} changed");
    assert_eq!(run(&program, &["runstate"], input), expected);
}

#[test]
fn the_whole_copy_of_twins_is_read_in_c() {
    let out = tempfile::tempdir().unwrap();
    let Some(cc) = compilers(["gcc", "clang"]).first().copied() else { return };
    let program = compile(cc, &["-std=gnu11"], "tests/c/reads.c", out.path());
    // Of the first copy while it is whole; of the second while the writer is in the first.
    let cases = [
        ([2, 2, 0b1001], "1 1"),
        ([2, 3, 0b1001], "1 1"),
        ([3, 2, 0b1001], "1 2"),
        ([3, 3, 0b1001], "-1 0"),
        ([3, 2, 0b0001], "-1 0"),
        ([3, 2, 0b1000], "0 0"),
        ([2, 2, 0b1000], "0 0"),
        ([3, 3, 0b0000], "0 0"),
    ];
    let input = cases.iter().flat_map(|(words, _)| words.map(u64::to_ne_bytes)).flatten().collect();
    let text = run(&program, &["twins"], input);
    assert_eq!(text.lines().collect::<Vec<_>>(), cases.map(|(_, expected)| expected));
}

/// What the library says of a region, in the words of `tests/c/reads.c`.
fn judge_records(file: &Path) -> String {
    let Ok(region) = Region::open(file) else { return "refused".to_owned() };
    if region.beyond_header().is_err() {
        return "refused".to_owned();
    }
    let geometry = region.geometry();
    let arrays = RecordKind::ALL.map(|kind| (kind.number(), geometry.array(kind)));
    let there = arrays.iter().filter(|(_, a)| a.nr > 0);
    there.map(|(kind, a)| format!("{kind} {} {} {} {} ", a.offs, a.size, a.stride, a.nr)).collect()
}

#[test]
fn tables_of_records_are_judged_in_c_as_they_are_in_rust() {
    let out = tempfile::tempdir().unwrap();
    let Some(cc) = compilers(["gcc", "clang"]).first().copied() else { return };
    let program = compile(cc, &["-std=gnu11"], "tests/c/reads.c", out.path());
    let mut random = fastrand::Rng::with_seed(6);
    let whole = golden::all()
        .filter(|(_, revision, pages)| revision.number >= 4 && !pages)
        .map(|(name, ..)| std::fs::read(root().join(format!("tests/golden/{name}.bin"))).unwrap())
        .collect::<Vec<_>>();
    let file = out.path().join("region");
    let (mut input, mut expected, mut refused) = (Vec::new(), String::new(), 0);
    for _ in 0..2_000 {
        let mut bytes = whole[random.usize(0..whole.len())].clone();
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let schema = word(&bytes, dom::SCHEMA_OFFS) as usize;
        for _ in 0..random.usize(0..3) {
            // A word of the table's header, or of one of its entries.
            let words = 8 + 8 * word(&bytes, schema + 4) as usize;
            let at = schema + 4 * random.usize(0..words.min(200));
            let known = word(&bytes, at);
            let value = match random.u8(0..6) {
                0 => random.u32(..),
                1 => 0,
                2 => known.wrapping_add(8 * random.u32(0..40)),
                3 => known.wrapping_sub(8 * random.u32(0..40)),
                4 => known.wrapping_add(1),
                _ => 8 * random.u32(0..2000),
            };
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        std::fs::write(&file, &bytes).unwrap();
        let verdict = judge_records(&file);
        refused += u32::from(verdict == "refused");
        expected += &(verdict + "\n");
        input.extend((bytes.len() as u64).to_ne_bytes());
        input.extend(bytes);
    }
    assert!((200..1_800).contains(&refused), "{refused} refused");
    assert_eq!(run(&program, &["records"], input), expected);
}
