//! Structures of other projects, compared by the layout that a C compiler gives them.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};

use domstat_abi::{CStruct, Compiler, StructError, StructRules, compare_structs, read_struct};

#[path = "../../tests/src/skip.rs"]
mod skip;
use skip::skip;

/// The compilers that are installed.
fn compilers(flags: &[&str]) -> Vec<Compiler> {
    let installed = |cc: &&str| {
        let output = std::process::Command::new(cc).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
    let found: Vec<Compiler> = ["gcc", "clang"]
        .into_iter()
        .filter(installed)
        .map(|cc| Compiler { cc: cc.to_owned(), flags: flags.clone() })
        .collect();
    if found.is_empty() {
        skip("cc", "no C compiler");
    }
    found
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/structs").join(name)
}

fn read(path: &Path, name: &str, compiler: &Compiler) -> CStruct {
    let dir = tempfile::tempdir().unwrap();
    read_struct(path, name, compiler, dir.path()).unwrap()
}

/// The layout of `struct s` in C text.
fn text(text: &str, compiler: &Compiler) -> CStruct {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.h");
    std::fs::write(&path, text).unwrap();
    read(&path, "s", compiler)
}

/// Each member's path, first bit, bits and kind.
fn shape(of: &CStruct) -> Vec<(&str, u64, u64, &str)> {
    let member = |m: &'_ domstat_abi::Member| (m.bit_offset, m.bit_size);
    of.members
        .iter()
        .map(|m| (m.path.as_str(), member(m).0, member(m).1, m.kind.as_str()))
        .collect()
}

/// The changes, each with whether it breaks builds.
fn changes(old: &CStruct, new: &CStruct, may_grow: bool) -> Vec<(bool, String)> {
    let found = compare_structs(old, new, StructRules { may_grow });
    found.changes.into_iter().map(|c| (c.breaks, format!("{}: {}", c.what, c.how))).collect()
}

#[test]
fn a_struct_is_laid_out_as_the_compiler_does() {
    for compiler in compilers(&[]) {
        let of = text(
            "enum color { RED, GREEN = 5 };\n\
             typedef volatile uint64_t word;\n\
             struct inner { uint8_t tag; uint32_t value; };\n\
             struct s {\n  char name[3];\n  word count;\n  unsigned low : 3, high : 5;\n\
             struct inner slots[4];\n  uint16_t grid[2][3];\n  enum color color;\n\
             union { float f; int32_t i; };\n  void *next;\n  _Bool on;\n  uint8_t tail[];\n};\n",
            &compiler,
        );
        assert_eq!(
            shape(&of),
            [
                ("name[]", 0, 8, "char"),
                ("count", 64, 64, "unsigned"),
                ("low", 128, 3, "unsigned"),
                ("high", 131, 5, "unsigned"),
                ("slots[].tag", 160, 8, "char"),
                ("slots[].value", 192, 32, "unsigned"),
                ("grid[]", 416, 16, "unsigned"),
                ("color", 512, 32, "enum"),
                ("f", 544, 32, "float"),
                ("i", 544, 32, "signed"),
                ("next", 576, 64, "pointer"),
                ("on", 640, 8, "bool"),
                ("tail[]", 648, 8, "char"),
            ],
            "{}",
            compiler.cc
        );
        let arrays = |path: &str| {
            let found = of.members.iter().find(|m| m.path == path);
            found.unwrap().arrays.clone()
        };
        assert_eq!(arrays("grid[]"), [(2, 6), (3, 2)]);
        assert_eq!(arrays("slots[].value"), [(4, 8)]);
        let color = of.members.iter().find(|m| m.path == "color").unwrap();
        assert_eq!(color.values, [("RED".to_owned(), 0), ("GREEN".to_owned(), 5)]);
        assert_eq!(of.size, 88);
        assert_eq!(changes(&of, &of, false), []);
    }
}

#[test]
fn each_kind_of_change_is_judged() {
    let old = "struct s { uint32_t a; uint32_t pad; uint64_t b; uint64_t reserved[2]; };";
    let cases: &[(&str, &[(bool, &str)])] = &[
        (
            "struct s { uint32_t pad; uint32_t a; uint64_t b; uint64_t reserved[2]; };",
            &[
                (true, "s.a: moved: byte 0 before, byte 4 now"),
                (false, "s.pad: reserved member changed"),
            ],
        ),
        (
            "struct s { uint64_t a; uint64_t b; uint64_t reserved[2]; };",
            &[
                (true, "s.a: resized: 4 bytes before, 8 bytes now"),
                (false, "s.pad: reserved member removed"),
            ],
        ),
        (
            "struct s { int32_t a; uint32_t pad; uint64_t b; uint64_t reserved[2]; };",
            &[(true, "s.a: retyped: unsigned before, signed now")],
        ),
        (
            "struct s { uint32_t a; uint32_t c; uint64_t b; uint64_t reserved[2]; };",
            &[
                (false, "s.pad: reserved member removed"),
                (false, "s.c: new member at byte 4, in reserved bytes"),
            ],
        ),
        (
            "struct s { uint32_t a; uint32_t pad; uint64_t b; uint64_t c; uint64_t reserved; };",
            &[
                (false, "s.reserved[]: reserved member removed"),
                (false, "s.c: new member at byte 16, in reserved bytes"),
                (false, "s.reserved: reserved member at byte 24"),
            ],
        ),
        (
            "struct s { uint32_t a; uint32_t pad; uint64_t other; uint64_t reserved[2]; };",
            &[(true, "s.b: removed"), (true, "s.other: new member at byte 8, where b was")],
        ),
    ];
    for compiler in compilers(&[]) {
        let before = text(old, &compiler);
        for (new, expected) in cases {
            let found = changes(&before, &text(new, &compiler), false);
            let expected: Vec<_> = expected.iter().map(|(b, s)| (*b, (*s).to_owned())).collect();
            assert_eq!(found, expected, "{} {new}", compiler.cc);
        }
        // Growth, and the padding at the end.
        let (short, long) = (
            "struct s { uint64_t a; uint32_t b; };",
            "struct s { uint64_t a; uint32_t b; uint32_t c; uint64_t d; };",
        );
        let [short, long] = [short, long].map(|of| text(of, &compiler));
        let broken =
            |may_grow| changes(&short, &long, may_grow).into_iter().filter(|c| c.0).count();
        assert_eq!((broken(false), broken(true)), (2, 1), "c lies in padding");
        // Enumerations.
        let colors =
            |values: &str| text(&format!("struct s {{ enum {{ {values} }} color; }};"), &compiler);
        let before = colors("RED, GREEN");
        assert_eq!(
            changes(&before, &colors("RED, GREEN, BLUE"), false),
            [(false, "s.color: BLUE: new value, 2".to_owned())]
        );
        let swapped = changes(&before, &colors("GREEN, RED"), false);
        assert!(swapped.iter().filter(|c| c.0).count() == 2, "{swapped:?}");
        // Packed, though no member was touched.
        let packed =
            text("struct s { uint8_t a; uint64_t b; } __attribute__((packed));", &compiler);
        let natural = text("struct s { uint8_t a; uint64_t b; };", &compiler);
        assert!(
            changes(&natural, &packed, false)
                .iter()
                .any(|c| c.1.contains("moved: byte 8 before, byte 1 now"))
        );
    }
}

#[test]
fn another_target_is_another_layout() {
    let old = "struct s { uint32_t a; long b; };";
    for compiler in compilers(&[]) {
        let wide = text(old, &compiler);
        let packed = Compiler { flags: vec!["-fpack-struct=4".to_owned()], ..compiler.clone() };
        let found = changes(&wide, &text(old, &packed), false);
        assert!(found.iter().any(|c| c.0 && c.1.starts_with("s.b: moved")), "{found:?}");
    }
}

#[test]
fn two_layouts_of_a_disks_counters_are_told_apart() {
    for compiler in compilers(&[]) {
        let of = |name: &str| read(&fixture(name), "disk_counters", &compiler);
        let (first, second, kernel) =
            (of("disk_counters_v1.h"), of("disk_counters_v2.h"), of("disk_counters_kernel.h"));
        // The hole got a name, and flags follow: fine for those who take the length of the file.
        assert_eq!(
            changes(&first, &second, true),
            [
                (false, "disk_counters.pad0: reserved member at byte 4".to_owned()),
                (
                    false,
                    "disk_counters.flags: new member at byte 88, behind the old structure"
                        .to_owned()
                ),
                (false, "disk_counters: grew: 88 bytes before, 96 now".to_owned()),
            ]
        );
        assert!(!compare_structs(&first, &second, StructRules::default()).is_compatible());
        let found = changes(&first, &kernel, true);
        assert!(found.iter().filter(|c| c.0).count() >= 8, "{found:#?}");
        assert!(found.iter().any(|c| c.1 == "disk_counters.read_total_us: removed"), "{found:#?}");
    }
}

#[test]
fn the_layout_of_rfc_v3_is_what_its_reader_expects() {
    use domstat_layout::rfc_v3::{HEADER_LEN, RECORD_LEN, header, record};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/c/rfc_v3.c");
    for compiler in compilers(&[]) {
        let head = read(&path, "header", &compiler);
        let bits = |at: usize| 8 * at as u64;
        assert_eq!(
            shape(&head),
            [
                ("magic", bits(header::MAGIC), 32, "unsigned"),
                ("offset", bits(header::OFFSET), 32, "unsigned"),
                ("size", bits(header::SIZE), 32, "unsigned"),
                ("stride", bits(header::STRIDE), 32, "unsigned"),
            ]
        );
        assert_eq!(head.size, HEADER_LEN as u64);
        let vcpu = read(&path, "vcpu", &compiler);
        assert_eq!(
            shape(&vcpu),
            [
                ("seq", bits(record::SEQ), 32, "unsigned"),
                ("pad0", bits(record::PAD), 32, "unsigned"),
                ("runstate_running_time", bits(record::RUNNING_NS), 64, "unsigned"),
            ]
        );
        assert_eq!(vcpu.size, RECORD_LEN as u64);
    }
}

#[test]
fn what_cannot_be_laid_out_is_an_error() {
    for compiler in compilers(&[]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.h");
        let read = |text: &str, name: &str| {
            std::fs::write(&path, text).unwrap();
            read_struct(&path, name, &compiler, dir.path())
        };
        let missing = read("struct s { int x; };", "t").unwrap_err();
        assert!(matches!(missing, StructError::Compile { .. }), "{missing}");
        assert!(missing.to_string().contains("struct t"), "{missing}");
        assert!(matches!(read("not C", "s"), Err(StructError::Compile { .. })));
        assert!(matches!(read("typedef int s;", "s"), Err(StructError::Dwarf { .. })));
        assert_eq!(read("typedef struct { int x; } s;", "s").unwrap().members.len(), 1);
        let compiler = Compiler { cc: "/nonexistent/cc".to_owned(), flags: Vec::new() };
        let error = read_struct(&path, "s", &compiler, dir.path()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/cc"), "{error}");
        let error =
            read_struct(Path::new("/nonexistent.h"), "s", &compiler, dir.path()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.h"), "{error}");
    }
}
