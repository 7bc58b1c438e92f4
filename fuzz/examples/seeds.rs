//! Writes the corpus that the fuzzer starts from: `cargo run --example seeds -- fuzz/corpus`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use domstat_fuzz::Input;
use domstat_invariant_checker::{fixtures, rfc_v3};
use domstat_layout::header::dom;

/// Fixtures that are kept, beside the golden regions: one of each kind of fault, not all.
const FIXTURES: [&str; 8] = ["i01", "i03", "i06", "i07", "i10-net", "i16", "i22-name", "i23"];

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
    for revision in 1..=4 {
        let region = fs::read(golden.join(format!("r{revision}-packed.bin")))?;
        put("region", &format!("r{revision}"), &Input::encode(&region, &[]))?;
        put("region", &format!("r{revision}-header-changes"), &Input::encode(&region, &header))?;
        put("region", &format!("r{revision}-group-changes"), &Input::encode(&region, &group))?;
        if revision == 4 {
            let at = |offset: usize| {
                let bytes = region.get(offset..offset + 4).and_then(|b| b.try_into().ok());
                bytes.map_or(0, u32::from_le_bytes) as usize
            };
            let (offs, size) = (at(dom::SCHEMA_OFFS), at(dom::SCHEMA_SIZE));
            put("schema", "r4", region.get(offs..offs + size).unwrap_or_default())?;
        }
    }
    for fixture in fixtures::all() {
        if FIXTURES.iter().any(|start| fixture.name.starts_with(start)) {
            put("region", fixture.name, &Input::encode(&fixture.bytes, &[]))?;
        }
    }
    put("rfc_v3", "good", &Input::encode(&rfc_v3::fixtures::good(), &[]))?;
    let changes = [word(4, 8), word(12, 0), word(16, 3), word(24, 1), word(16, 4)];
    put("rfc_v3", "good-changes", &Input::encode(&rfc_v3::fixtures::good(), &changes))?;
    for fixture in rfc_v3::fixtures::all() {
        put("rfc_v3", fixture.name, &Input::encode(&fixture.bytes, &[]))?;
    }
    Ok(())
}
