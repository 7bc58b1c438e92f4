//! Writes the corpus that the fuzzer starts from: `cargo run --example seeds -- fuzz/corpus`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use domstat_fuzz::Input;
use domstat_invariant_checker::{fixtures, rfc_v3};
use domstat_layout::handover::{Domain, MAX_MESSAGE, Refusal, Reply, Request};
use domstat_layout::header::{SCHEMA_MAGIC, dom};

/// Fixtures that are kept, next to the golden regions: one of each kind of fault, not all.
const FIXTURES: [&str; 8] = ["i01", "i03", "i06", "i07", "i10-net", "i16", "i22-name", "i23"];

/// A schema of one record, one group and one field of this kind, width and number of buckets or
/// states.
fn tiny_schema(kind: u32, width: u32, nr: u32) -> Vec<u8> {
    let strings = b"r\0g\0f\0on\0off\0\0";
    let len = strings.len() as u32;
    let header = [SCHEMA_MAGIC, 1, 32, 1, 40, 1, 48, len];
    let record = [2, 0, 128, 256, 256, 3, 8, 32];
    let group = [2, 0, 32, 16 + width, 2, 0, 1, 0, 0, 0];
    // Buckets of width 8, and the states that follow the names.
    let field = [4, 48, width, kind, 2, (-9i32).cast_unsigned(), 10, nr, 8, 0, 6, 0];
    let words = [&header[..], &record, &group, &field].concat();
    words.iter().flat_map(|word| word.to_le_bytes()).chain(*strings).collect()
}

fn main() -> io::Result<()> {
    let corpus = PathBuf::from(env::args().nth(1).ok_or_else(|| io::Error::other("say where to"))?);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    // Words of the header that change after it was validated, and a group's seq, bit and field.
    let word = |at: usize, value: u32| (u16::try_from(at).unwrap_or(0), value);
    let header = [
        word(dom::DOM_SIZE, u32::MAX),
        word(dom::VCPU_OFFS, 0x8000_0000),
        word(dom::NR_VCPUS, 65_536),
        word(dom::MAGIC, 0),
    ];
    let group = [word(128, 3), word(144, 77), word(128, 4), word(dom::STATS_ACTIVE, 0)];
    let put = |folder: &str, name: &str, data: &[u8]| {
        let folder = corpus.join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), data)
    };
    for revision in 1..=5 {
        let region = fs::read(golden.join(format!("r{revision}-packed.bin")))?;
        put("region", &format!("r{revision}"), &Input::encode(&region, &[]))?;
        put("region", &format!("r{revision}-header-changes"), &Input::encode(&region, &header))?;
        put("region", &format!("r{revision}-group-changes"), &Input::encode(&region, &group))?;
        if revision >= 4 {
            let at = |offset: usize| {
                let bytes = region.get(offset..offset + 4).and_then(|b| b.try_into().ok());
                bytes.map_or(0, u32::from_le_bytes) as usize
            };
            let (offs, size) = (at(dom::SCHEMA_OFFS), at(dom::SCHEMA_SIZE));
            put(
                "schema",
                &format!("r{revision}"),
                region.get(offs..offs + size).unwrap_or_default(),
            )?;
        }
    }
    for (name, kind, width, nr) in [
        ("number", 1, 8, 0),
        ("linear", 4, 64, 8),
        ("log", 5, 32, 4),
        ("state", 6, 8, 2),
        ("text", 8, 128, 0),
    ] {
        let schema = tiny_schema(kind, width, nr);
        if let Err(error) = domstat_layout::Schema::parse(&schema) {
            return Err(io::Error::other(format!("{name}: {error}")));
        }
        put("schema", name, &schema)?;
    }
    for fixture in fixtures::all() {
        if FIXTURES.iter().any(|start| fixture.name.starts_with(start)) {
            put("region", fixture.name, &Input::encode(&fixture.bytes, &[]))?;
        }
    }
    let mut buffer = [0; MAX_MESSAGE];
    let requests = [
        ("list", Request::List { follow: true }),
        ("attach", Request::Attach { incarnation: 7, name: "web1" }),
    ];
    for (name, request) in requests {
        put("handover", name, request.encode(5, &mut buffer).unwrap_or_default())?;
    }
    let domain = Domain { incarnation: 7, len: 8192, nr_fds: 3, name: "web1" };
    let replies = [
        ("welcome", Reply::Welcome { max_message: 512 }),
        ("domain", Reply::Domain(domain)),
        ("frames", Reply::Frames { first: 64 }),
        ("end", Reply::End { nr: 2 }),
        ("gone", Reply::Gone { incarnation: 9, name: "web1" }),
        ("error", Reply::Error(Refusal::Busy)),
    ];
    for (name, reply) in replies {
        put("handover", name, reply.encode(5, &mut buffer).unwrap_or_default())?;
    }
    // The first two bytes say where the others are cut.
    for (name, line) in [
        ("cpus", r#"{"id":1,"return":[{"cpu-index":0,"thread-id":7,"qom-path":"/machine/cpu"}]}"#),
        ("event", r#"{"event":"BLOCK_JOB_READY","data":{"device":"d","len":9,"offset":3}}"#),
        ("error", r#"{"id":1,"error":{"class":"GenericError","desc":"no"}}"#),
        (
            "devices",
            r#"{"return":[{"device":"d","qdev":"/q","stats":{"rd_bytes":5},"parent":{}}]}"#,
        ),
    ] {
        put("qmp", name, format!("\x05\0{line}\n").as_bytes())?;
    }
    for (name, line) in [
        ("domains", r#"{"op":"domains"}"#),
        ("threshold", r#"{"op":"block-threshold","domain":"web1","disk":"vda[1]","threshold":5}"#),
        ("abort", r#"{"op":"block-job-abort","domain":"web1","disk":"vda","timeout_ms":7}"#),
        ("subscribe", r#"{"op":"subscribe","domain":null}"#),
        ("answer", r#"{"ok":[{"domain":"web1","connected":true,"qmp":"/q"}]}"#),
        ("refusal", r#"{"error":{"code":"invalid","message":"no"}}"#),
    ] {
        put("control", name, line.as_bytes())?;
    }
    put("rfc_v3", "good", &Input::encode(&rfc_v3::fixtures::good(), &[]))?;
    let changes = [word(4, 8), word(12, 0), word(16, 3), word(24, 1), word(16, 4)];
    put("rfc_v3", "good-changes", &Input::encode(&rfc_v3::fixtures::good(), &changes))?;
    for fixture in rfc_v3::fixtures::all() {
        put("rfc_v3", fixture.name, &Input::encode(&fixture.bytes, &[]))?;
    }
    Ok(())
}
