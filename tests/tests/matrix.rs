//! The cross-revision matrix: producers and consumers in Rust and C, as builds of every revision,
//! each a process of its own, on the same region, in both placements and at four alignments.
//! Every field that both know reads equal; every other reads "not produced".

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domstat_layout::{REVISIONS, RecordKind};
use domstat_tests::peer;
use domstat_tests::skip::skip;

const ALIGNMENTS: [u32; 4] = [64, 128, 512, 4096];

fn c_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/c")
}

fn headers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../layout/include/domstat")
}

/// A compiler as the `cc` crate finds it; `None` if it is not installed.
fn compiler(name: Option<&str>) -> Option<cc::Tool> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cc::Build::new();
    build.target(&target).host(&target).opt_level(2).cargo_metadata(false).warnings(false);
    if let Some(name) = name {
        build.compiler(name);
    }
    let tool = build.try_get_compiler().ok()?;
    let ran = tool.to_command().arg("--version").output();
    ran.is_ok_and(|output| output.status.success()).then_some(tool)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles one of the C programs with a revision's header.
fn compile(tool: &cc::Tool, program: &str, revision: u32, out: &Path) -> PathBuf {
    let out = out.join(format!("{program}-r{revision}"));
    run(tool
        .to_command()
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(headers())
        .arg(format!("-DPEER_HEADER=\"r{revision}.h\""))
        .arg(c_dir().join(format!("{program}.c")))
        .arg("-o")
        .arg(&out));
    out
}

/// A side of the matrix: how to start it as a build of a revision.
struct Side {
    name: &'static str,
    /// Programs by revision; `None` for the Rust peer, which takes the revision as an argument.
    programs: Option<Vec<PathBuf>>,
}

impl Side {
    fn command(&self, verb: &str, args: &[&str], revision: u32) -> Command {
        match &self.programs {
            Some(programs) => {
                let mut command = Command::new(&programs[revision as usize - 1]);
                command.args(args);
                command
            }
            None => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_domstat-peer"));
                command.arg(verb).args(args).arg(revision.to_string());
                command
            }
        }
    }
}

/// A producer that lives until it is dropped.
struct Producer(Child);

impl Producer {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{command:?}");
        Self(child)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn every_pair_of_revisions_understands_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let sides = |program: &'static str| {
        let mut sides = vec![Side { name: "Rust", programs: None }];
        for (name, tool) in [("C (gcc)", Some("gcc")), ("C (clang)", Some("clang"))] {
            let Some(tool) = compiler(tool) else {
                skip("cc", &format!("no compiler for {name}"));
                continue;
            };
            let out = dir.path().join(name);
            std::fs::create_dir_all(&out).unwrap();
            let programs =
                REVISIONS.iter().map(|r| compile(&tool, program, r.number, &out)).collect();
            sides.push(Side { name, programs: Some(programs) });
        }
        sides
    };
    let (producers, consumers) = (sides("producer"), sides("consumer"));
    let mut pairs = 0;
    let mut fields = 0;
    for from in &producers {
        for written in REVISIONS {
            for (placement, align) in
                ["packed", "pages"].into_iter().flat_map(|p| ALIGNMENTS.map(|a| (p, a)))
            {
                let file = dir.path().join("region");
                let _ = std::fs::remove_file(&file);
                let path = file.to_str().unwrap();
                let args = [path, placement, &align.to_string()];
                let producer = Producer::start(from.command("produce", &args, written.number));
                for to in &consumers {
                    for read in REVISIONS {
                        let output = to.command("consume", &[path], read.number).output().unwrap();
                        let text = String::from_utf8(output.stdout).unwrap();
                        let found: Vec<&str> = text.lines().collect();
                        let expected = peer::expected(written, read);
                        assert_eq!(
                            found, expected,
                            "{} of revision {}, {placement} by {align}, read by {} of revision {}",
                            from.name, written.number, to.name, read.number
                        );
                        pairs += 1;
                        fields += expected.len();
                    }
                }
                drop(producer);
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "matrix: {pairs} combinations, {fields} fields compared");
    let sides = producers.len() * consumers.len();
    assert_eq!(pairs, sides * REVISIONS.len().pow(2) * 2 * ALIGNMENTS.len());
}

/// The checks of the headers are in the headers: they compile, in C99, without a warning.
#[test]
fn headers_compile_as_c99_and_their_checks_hold() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["gcc", "clang"] {
        let Some(tool) = compiler(Some(name)) else {
            skip("cc", &format!("{name} is not installed"));
            continue;
        };
        // Without a C library for the other machine there is no stdint.h.
        let probe = dir.path().join("probe.c");
        std::fs::write(&probe, "#include <stdint.h>\nint x;\n").unwrap();
        let mut machines = vec![None];
        let mut probing = tool.to_command();
        probing.args(["-m32", "-c"]).arg(&probe).arg("-o").arg(dir.path().join("probe.o"));
        match probing.output().unwrap().status.success() {
            true => machines.push(Some("-m32")),
            false => skip("m32", &format!("{name} compiles nothing with -m32")),
        }
        for machine in machines {
            for revision in REVISIONS {
                let source = dir.path().join("one.c");
                let text = format!("#include \"r{}.h\"\nint x;\n", revision.number);
                std::fs::write(&source, text).unwrap();
                let mut command = tool.to_command();
                command.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "-I"]);
                command.arg(headers()).arg(&source).arg("-o").arg(dir.path().join("one.o"));
                run(command.args(machine));
            }
        }
    }
}

/// What the C compiler says of every offset and size, held against the descriptor table.
#[test]
fn rust_and_c_agree_on_every_offset_and_size() {
    let Some(tool) = compiler(None) else { return skip("cc", "no C compiler") };
    let dir = tempfile::tempdir().unwrap();
    for revision in REVISIONS {
        let mut source = format!("#include <stdio.h>\n#include \"r{}.h\"\n", revision.number);
        source += "int main(void) {\n";
        let mut expected = Vec::new();
        let mut ask = |expression: String, value: usize| {
            source += &format!("printf(\"%zu\\n\", {expression});\n");
            expected.push((expression, value));
        };
        for desc in revision.all_groups() {
            let record = desc.record.name();
            let group = format!("struct domstat_{record}_{}", desc.name);
            let of = domstat_abi::c_record_name(desc.record);
            ask(format!("offsetof(struct domstat_{of}, {})", desc.name), desc.offset);
            ask(format!("sizeof({group})"), desc.size);
            ask(
                format!("(size_t)DOMSTAT_{}_{}_BIT", record, desc.name)
                    .to_uppercase()
                    .replace("(SIZE_T)", "(size_t)"),
                desc.bit as usize,
            );
            for field in desc.fields {
                ask(format!("offsetof({group}, {})", field.name), field.offset - desc.offset);
                ask(format!("sizeof((({group} *)0)->{})", field.name), field.width);
            }
        }
        for kind in RecordKind::ALL.into_iter().filter(|kind| !revision.groups(*kind).is_empty()) {
            let of = domstat_abi::c_record_name(kind);
            ask(format!("sizeof(struct domstat_{of})"), revision.size(kind));
            let magic = format!("(size_t)DOMSTAT_{}_MAGIC", kind.name().to_uppercase());
            ask(magic, kind.magic() as usize);
        }
        source += "return 0; }\n";
        let (file, program) = (dir.path().join("ask.c"), dir.path().join("ask"));
        std::fs::write(&file, source).unwrap();
        run(tool.to_command().arg("-I").arg(headers()).arg(&file).arg("-o").arg(&program));
        let output = Command::new(&program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(found.len(), expected.len());
        for ((expression, expected), found) in expected.into_iter().zip(found) {
            assert_eq!(found, expected, "revision {}: {expression}", revision.number);
        }
    }
}

/// libvirt's discipline: each caller gets the structure that it was compiled with, from any
/// producer, and none that is newer than the reader.
#[test]
fn block_statistics_by_size() {
    use domstat_consumer::Region;
    use domstat_consumer::libvirt::BlockStatsError;
    let dir = tempfile::tempdir().unwrap();
    let compiled =
        |revision| compiler(None).map(|tool| compile(&tool, "block_stats", revision, dir.path()));
    let readers: Vec<_> = [2, 3, 4].into_iter().filter_map(|r| Some((r, compiled(r)?))).collect();
    if readers.is_empty() {
        skip("cc", "no C compiler");
    }
    for written in [2, 3, 4] {
        let file = dir.path().join(format!("blk-{written}"));
        let mut created = peer::builder(written, false, 64).create_file(&file).unwrap();
        peer::fill(&mut created);
        created.blks[0].set(domstat_layout::latest::BlkIo::errs, None, domstat_layout::Ns(2));
        let producer = created.unpublished.publish().unwrap();
        let region = Region::open(&file).unwrap();
        let v1 = [3_000_192i64, 3_000_200, 3_000_208, 3_000_216, -1];
        let times = [3_000_256i64, 3_000_264, 3_000_272, 3_000_280];
        let tail = if written >= 3 { times } else { [-1; 4] };
        let whole: Vec<i64> = v1.into_iter().chain(tail).collect();
        for size in [40usize, 72, 80] {
            let expected = &whole[..(size / 8).min(9)];
            let mut buffer = [0x55u8; 80];
            let found = region.blk(0).unwrap().read_block_stats(&mut buffer[..size]);
            if size > 72 {
                assert_eq!(found, Err(BlockStatsError::TooLarge { found: 80, newest: 72 }));
                assert_eq!(buffer, [0x55; 80]);
            } else {
                found.unwrap();
                let (words, _) = buffer[..size].as_chunks::<8>();
                let words: Vec<i64> = words.iter().map(|w| i64::from_ne_bytes(*w)).collect();
                assert_eq!(words, expected);
                assert!(buffer[size..].iter().all(|b| *b == 0x55), "past the structure");
            }
            for (read, program) in &readers {
                let output = Command::new(program).arg(&file).arg(size.to_string()).output();
                let text = String::from_utf8(output.unwrap().stdout).unwrap();
                // A reader compiled with revision 2 knows the first structure only.
                let newest = if *read == 2 { 40 } else { 72 };
                let expected = match size <= newest {
                    true => expected.iter().map(|v| format!("{v} ")).collect(),
                    false => "Invalid argument".to_owned(),
                };
                assert_eq!(text.trim_end_matches('\n'), expected, "{written} read by {read}");
            }
        }
        producer.retire();
    }
}
